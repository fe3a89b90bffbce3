"""The manifests: valid to the letter, as the job and its topics need them, and no more may be done than must.

Those marked k8s render with kustomize and know the operators' definitions, which `make test-k8s` fetches.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions, PortableOptions
from manifests import (
    OVERLAYS,
    ROOT,
    VERSIONS,
    Object,
    beam_args,
    built,
    careless,
    find,
    problems,
    rendered,
    templates,
    written,
)

from pipeline.flink.worker_pool_command import PORT
from pipeline.kafka import topics
from pipeline.kafka.topics import ROLES, topic_names
from pipeline.options import ENV_PREFIX, Settings, load_settings

ENVIRONMENT = dict(
    line.split("=", 1) for line in (ROOT / "k8s" / "base" / "settings.env").read_text().splitlines() if line
)


def as_written() -> list[Object]:
    """Every object of the base, without kustomize."""
    names = yaml.safe_load((ROOT / "k8s" / "base" / "kustomization.yaml").read_text())["resources"]
    return [each for name in names for each in written(name)]


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> list[Object]:
    return rendered(request.param)


# What the API server, and the operators, would say.


@pytest.mark.k8s
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_to_the_letter(overlay: list[Object], version: str) -> None:
    assert not problems(overlay, version)


def rename(item: Any, path: str, name: str) -> None:
    """Misspell the last key of a path."""
    *parents, last = path.split("/")
    for key in parents:
        item = item[int(key) if key.isdecimal() else key]
    item[name] = item.pop(last)


MISSPELT = [
    ("FlinkDeployment", "hushword", "spec/flinkVersion", "flinkVersions"),
    ("FlinkDeployment", "hushword", "spec/job/upgradeMode", "upgrademode"),
    ("FlinkDeployment", "hushword", "spec/taskManager/podTemplate/spec/containers/1/args", "arg"),
    ("FlinkDeployment", "hushword", "spec/jobManager/podTemplate/spec/initContainers/0/envFrom", "envfrom"),
    ("FlinkDeployment", "hushword", "spec/podTemplate/spec/securityContext/runAsNonRoot", "runAsNonroot"),
    ("Kafka", "hushword-kafka", "spec/kafka/listeners/0/authentication", "authentification"),
    ("KafkaNodePool", "brokers", "spec/roles", "role"),
    ("KafkaTopic", "wakeword-audio", "spec/config", "configs"),
    ("KafkaUser", "hushword-job", "spec/authorization/acls/0/operations", "operation"),
    ("Deployment", "hushword-monitor", "spec/template/spec/containers/0/livenessProbe", "liveness"),
    ("NetworkPolicy", "nothing", "spec/policyTypes", "policyType"),
    ("PodDisruptionBudget", "hushword-job-managers", "spec/minAvailable", "minimumAvailable"),
    ("ScaledObject", "hushword-job", "spec/triggers/0/metadata", "meta"),
    ("TriggerAuthentication", "hushword-scale", "spec/secretTargetRef/0/parameter", "param"),
    ("ServiceMonitor", "hushword-monitor", "spec/endpoints/0/authorization", "auth"),
    ("PodMonitor", "hushword", "spec/podMetricsEndpoints/0/relabelings", "relabellings"),
    ("PrometheusRule", "hushword", "spec/groups/0/rules/0/expr", "expression"),
    ("KafkaUser", "hushword-job", "metadata/labels", "label"),
]


@pytest.mark.k8s
@pytest.mark.parametrize(("kind", "name", "path", "misspelt"), MISSPELT)
def test_a_misspelt_field_is_found(kind: str, name: str, path: str, misspelt: str) -> None:
    item = find(rendered("production"), kind, name)
    rename(item, path, misspelt)
    assert problems([item], VERSIONS[0])


@pytest.mark.k8s
def test_a_value_of_the_wrong_kind_is_found() -> None:
    item = find(rendered("production"), "FlinkDeployment")
    item["spec"]["flinkConfiguration"]["taskmanager.numberOfTaskSlots"] = 1
    assert problems([item], VERSIONS[0])


# As the job needs it.


@pytest.mark.k8s
def test_what_is_named_is_there(overlay: list[Object]) -> None:
    """Config maps and claims by their rendered names; of secrets, those that Strimzi makes and the one to be given."""
    maps = {o["metadata"]["name"] for o in overlay if o["kind"] == "ConfigMap"} | {"kube-root-ca.crt"}
    claims = {o["metadata"]["name"] for o in overlay if o["kind"] == "PersistentVolumeClaim"}
    users = {o["metadata"]["name"] for o in overlay if o["kind"] == "KafkaUser"}
    secrets = users | {"hushword-kafka-cluster-ca-cert", "hushword-monitor-token"}
    text = yaml.safe_dump_all(overlay)
    assert set(re.findall(r"configMapRef:\n\s+name: (\S+)", text)) <= maps
    assert set(re.findall(r"claimName: (\S+)", text)) == claims
    assert set(re.findall(r"secretName: (\S+)", text)) <= secrets
    assert not [o for o in overlay if o["kind"] == "Secret"]
    assert {o["metadata"].get("namespace") for o in overlay if o["kind"] != "Namespace"} == {"hushword"}


@pytest.mark.k8s
def test_another_job_begins_without_the_checkpoints_of_the_last(tmp_path: Path) -> None:
    """They hold the settings that the reader began with."""
    base, change = (os.path.relpath(ROOT / "k8s" / name, tmp_path) for name in ("base", "components/another-job"))
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{base}]\ncomponents: [{change}]\n")
    assert find(built(tmp_path), "FlinkDeployment")["spec"]["job"]["upgradeMode"] == "stateless"
    assert find(rendered("production"), "FlinkDeployment")["spec"]["job"]["upgradeMode"] == "last-state"


@pytest.mark.k8s
def test_what_is_scraped_is_a_port_that_there_is() -> None:
    objects = rendered("production")
    ports = {
        port["name"]: port["containerPort"]
        for item in objects
        for _, template in templates(item)
        for container in template["spec"]["containers"]
        for port in container.get("ports", ())
    }
    assert ports == {"metrics": 9108, "flink-metrics": 9249, "http": 8470}
    scraped = [e for o in objects if o["kind"] == "PodMonitor" for e in o["spec"]["podMetricsEndpoints"]]
    assert {each["port"] for each in scraped} == {"metrics", "flink-metrics", "tcp-prometheus"}  # the last: Strimzi's
    reporter = find(objects, "FlinkDeployment")["spec"]["flinkConfiguration"]["metrics.reporter.prom.port"]
    assert int(reporter) == ports["flink-metrics"]
    allowed = find(objects, "NetworkPolicy", "prometheus-to-job")["spec"]["ingress"][0]["ports"]
    assert {each["port"] for each in allowed} == {ports["metrics"], ports["flink-metrics"]}


def mismatches(objects: list[Object]) -> list[str]:
    """Say which topics are not as `hushword topics create` would make them."""
    names = topic_names(Settings())
    found = []
    for role in ROLES:
        spec = find(objects, "KafkaTopic", names[role])["spec"]
        if {key: str(value) for key, value in spec["config"].items()} != topics._CONFIGS[role]:
            found.append(f"{names[role]} is configured otherwise")
        if (spec["partitions"] == 1) != (role in topics._COMPACTED):
            found.append(f"{names[role]} has {spec['partitions']} partitions")
    return found


def test_topics_are_those_that_the_job_makes() -> None:
    objects = written("topics.yaml")
    assert {each["metadata"]["name"] for each in objects} == set(topic_names(Settings()).values())
    assert not mismatches(objects)


@pytest.mark.k8s
def test_topics_are_those_that_the_job_makes_in_every_overlay(overlay: list[Object]) -> None:
    assert not mismatches(overlay)


def test_a_topic_that_keeps_voices_longer_is_found() -> None:
    objects = written("topics.yaml")
    find(objects, "KafkaTopic", "wakeword-audio")["spec"]["config"]["retention.ms"] *= 4
    assert mismatches(objects) == ["wakeword-audio is configured otherwise"]


def copies(objects: list[Object]) -> dict[str, set[int]]:
    """Give how many copies each thing asks for, and how many brokers there are."""
    config = find(objects, "Kafka")["spec"]["kafka"]["config"]
    return {
        "topics": {o["spec"]["replicas"] for o in objects if o["kind"] == "KafkaTopic"},
        "internal": {value for key, value in config.items() if key.endswith("replication.factor")},
        "insync": {value for key, value in config.items() if key.endswith(("min.insync.replicas", "min.isr"))},
        "pools": {o["spec"]["replicas"] for o in objects if o["kind"] == "KafkaNodePool"},
    }


@pytest.mark.k8s
def test_production_survives_a_broker_and_a_laptop_has_one() -> None:
    assert copies(rendered("production")) == {"topics": {3}, "internal": {3}, "insync": {2}, "pools": {3}}
    assert copies(rendered("local")) == {"topics": {1}, "internal": {1}, "insync": {1}, "pools": {1}}


def environments() -> dict[str, dict[str, str]]:
    """The variables that each of our containers is given."""
    found = {}
    for item in as_written():
        for _, template in templates(item):
            for container in (*template["spec"].get("initContainers", ()), *template["spec"]["containers"]):
                if container["name"] != "flink-main-container":
                    own = {each["name"]: each["value"] for each in container.get("env", ())}
                    found[container["name"]] = {**ENVIRONMENT, **own}
    return found


@pytest.mark.parametrize("container", ["make-jar", "worker", "monitor"])
def test_the_environment_is_settings_that_there_are(container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {name: value for name, value in environments()[container].items() if name.startswith(ENV_PREFIX)}
    for name, value in given.items():
        assert name.removeprefix(ENV_PREFIX).lower() in Settings.model_fields
        monkeypatch.setenv(name, value)
    settings = load_settings()
    (listener,) = find(written("kafka.yaml"), "Kafka")["spec"]["kafka"]["listeners"]
    assert listener["tls"]
    assert settings.bootstrap_servers == f"hushword-kafka-kafka-bootstrap:{listener['port']}"
    assert settings.group_id == "hushword"  # in ACLs and the trigger


def test_the_jar_is_made_for_the_pool_beside_the_task_manager() -> None:
    """Every option is one that Beam knows; the jar is where Flink looks for it."""
    deployment = find(written("job.yaml"), "FlinkDeployment")["spec"]
    options = PipelineOptions(beam_args(written("job.yaml")))
    flink, portable = options.view_as(FlinkRunnerOptions), options.view_as(PortableOptions)
    assert f"local://{portable.output_executable_path}" == deployment["job"]["jarURI"]
    assert (portable.environment_type, portable.environment_config) == ("EXTERNAL", f"127.0.0.1:{PORT}")
    assert flink.flink_job_server_jar == "/opt/beam/job-server.jar"  # deploy/images/Dockerfile
    assert deployment["flinkConfiguration"]["taskmanager.numberOfTaskSlots"] == "1"  # one pool, one reader at most
    # Beam's own options of Flink are the job server's: Python does not know them.
    unknown = {name.partition("=")[0] for name in beam_args(written("job.yaml"))} - {
        f"--{name}" for name in options.get_all_options()
    }
    assert unknown <= {"--max_bundle_time_mills", "--max_bundle_size", "--checkpointing_interval"}
    seconds = deployment["flinkConfiguration"]["execution.checkpointing.interval"].removesuffix(" s")
    assert f"--checkpointing_interval={seconds}000" in beam_args(written("job.yaml"))  # the operator knows it, too


# Nobody may do more than they must.


@pytest.mark.k8s
def test_no_container_may_do_more_than_it_must(overlay: list[Object]) -> None:
    assert not careless(overlay)


def pod_of(objects: list[Object]) -> Object:
    return find(objects, "Deployment")["spec"]["template"]["spec"]  # type: ignore[no-any-return]


CARELESS: dict[str, Callable[[list[Object]], Any]] = {
    "may run as root": lambda objects: pod_of(objects)["securityContext"].pop("runAsNonRoot"),
    "has no seccomp profile": lambda objects: pod_of(objects)["securityContext"].pop("seccompProfile"),
    "can write to its image": lambda objects: pod_of(objects)["containers"][0]["securityContext"].update(
        readOnlyRootFilesystem=False
    ),
    "has capabilities": lambda objects: pod_of(objects)["containers"][0]["securityContext"].pop("capabilities"),
    "has no bounds": lambda objects: pod_of(objects)["containers"][0]["resources"].pop("limits"),
    "overrides its pod": lambda objects: pod_of(objects)["containers"][0]["securityContext"].update(runAsUser=0),
    "every container has the token of the API server": lambda objects: pod_of(objects).pop(
        "automountServiceAccountToken"
    ),
    "mounts the host": lambda objects: pod_of(objects)["volumes"].append({"name": "h", "hostPath": {"path": "/"}}),
}


@pytest.mark.parametrize("what", CARELESS)
def test_what_may_do_too_much_is_found(what: str) -> None:
    objects = as_written()
    assert not careless(objects)
    CARELESS[what](objects)
    assert [text for text in careless(objects) if text.endswith(what)]


def test_a_worker_of_flink_that_may_run_as_root_is_found() -> None:
    objects = as_written()
    find(objects, "FlinkDeployment")["spec"]["podTemplate"]["spec"]["securityContext"]["runAsNonRoot"] = False
    assert careless(objects) == [
        f"FlinkDeployment/hushword {where}: may run as root" for where in ("jobManager", "taskManager")
    ]


def test_the_pods_of_kafka_are_held_to_the_same() -> None:
    """Strimzi's own images; whether they can do without writing to them is not known."""
    objects = written("kafka.yaml")
    kafka = find(objects, "Kafka")["spec"]
    pools = [each["spec"]["template"] for each in objects if each["kind"] == "KafkaNodePool"]
    for made in (*pools, kafka["entityOperator"]["template"], kafka["kafkaExporter"]["template"]):
        pod = made.pop("pod")["securityContext"]
        assert pod == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        assert made
        for container in made.values():
            confined = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            assert container["securityContext"] == confined


def rights(objects: list[Object]) -> dict[str, dict[str, set[str]]]:
    """Give the operations of each user by resource, without those that only describe."""
    return {
        user["metadata"]["name"]: {
            acl["resource"].get("name", acl["resource"]["type"]): done
            for acl in user["spec"]["authorization"]["acls"]
            if (done := {each for each in acl["operations"] if not each.startswith("Describe")})
        }
        for user in objects
        if user["kind"] == "KafkaUser"
    }


def test_everybody_has_the_rights_that_their_work_takes() -> None:
    of = rights(written("users.yaml"))
    assert of["hushword-job"] == {
        "wakeword-audio": {"Read"},
        "hushword": {"Read"},
        "media-fingerprints": {"Read", "Write"},
        "hushword-control": {"Read", "Write"},
        "wakeword-decisions": {"Write"},
        "wakeword-audio.dlq": {"Write"},
    }
    assert of["hushword-gateway"] == {"wakeword-decisions": {"Read"}, "gateway": {"Read"}}
    assert of["hushword-audio"] == {"wakeword-audio": {"Write"}}
    assert "Write" not in set().union(*of["hushword-monitor"].values())
    may_hear = {user for user, done in of.items() if "Read" in done.get("wakeword-audio", ())}
    assert may_hear == {"hushword-job", "hushword-monitor", "hushword-investigator"}
    assert {user for user, done in of.items() if "Write" in done.get("wakeword-decisions", ())} == {"hushword-job"}


def test_the_pool_of_workers_is_reached_by_no_policy() -> None:
    """It listens on the loopback address alone; the policies do not count on that."""
    for policy in written("network.yaml"):
        for rule in policy["spec"].get("ingress", ()):
            for port in rule["ports"]:
                assert not port["port"] <= PORT <= port.get("endPort", port["port"])


@pytest.mark.k8s
def test_everything_is_denied_that_is_not_allowed(overlay: list[Object]) -> None:
    assert find(overlay, "NetworkPolicy", "nothing")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }
    for policy in (o for o in overlay if o["kind"] == "NetworkPolicy"):
        for rule in (*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ())):
            peers = rule.get("from") or rule["to"]
            inside = all(peer.get("podSelector") for peer in peers)
            assert inside or rule["ports"]


# What is made from elsewhere.


def test_the_rules_are_those_of_prometheus() -> None:
    made = yaml.safe_load((ROOT / "k8s" / "components" / "prometheus" / "rules.yaml").read_text())
    told = yaml.safe_load((ROOT / "deploy" / "prometheus" / "hushword.rules.yaml").read_text())
    assert made["spec"] == told, "make rules"


@pytest.mark.k8s
def test_prometheus_gives_the_jobs_the_names_that_the_rules_go_by() -> None:
    objects = rendered("production")
    named = {
        rule["replacement"]
        for o in objects
        if o["kind"] in {"PodMonitor", "ServiceMonitor"}
        for endpoint in o["spec"].get("podMetricsEndpoints", o["spec"].get("endpoints"))
        for rule in endpoint["relabelings"]
    }
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yaml").read_text())
    assert {each["job_name"] for each in config["scrape_configs"]} <= named


@pytest.mark.k8s
def test_keda_scales_what_there_is_and_no_further_than_one_reader_feeds() -> None:
    objects = rendered("production")
    scaled = find(objects, "ScaledObject")["spec"]
    target = find(objects, scaled["scaleTargetRef"]["kind"], scaled["scaleTargetRef"]["name"])
    assert target["apiVersion"] == scaled["scaleTargetRef"]["apiVersion"]
    # The scale of a FlinkDeployment is the replicas of its task managers: without any, nobody scales anything.
    assert scaled["minReplicaCount"] <= target["spec"]["taskManager"]["replicas"] <= scaled["maxReplicaCount"]
    (trigger,) = scaled["triggers"]
    defaults = Settings()
    assert trigger["metadata"]["topic"] == defaults.audio_topic
    assert trigger["metadata"]["consumerGroup"] == defaults.group_id
    assert trigger["metadata"]["bootstrapServers"] == ENVIRONMENT["HUSHWORD_BOOTSTRAP_SERVERS"]
