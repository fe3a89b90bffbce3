"""The Kubernetes objects of `k8s/`: rendered by kustomize, held strictly against their schemas, and looked through."""

import copy
import functools
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.local.jars import cache_directory

Object = dict[str, Any]

ROOT = Path(__file__).parents[1]
OVERLAYS = ("local", "production")
# The oldest Kubernetes that Strimzi 1.2 works on, and the newest that there are schemas of.
VERSIONS = ("1.31", "1.37")
FETCHED = cache_directory() / "kubernetes"


@functools.cache
def _built(folder: Path) -> str:
    kustomize = FETCHED / "kustomize"
    if not kustomize.exists():
        pytest.skip("kustomize is not there: `make test-k8s` fetches it")
    done = subprocess.run([kustomize, "build", folder], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def built(folder: Path) -> list[Object]:
    """Give a folder's objects, fresh ones each time; skip where kustomize is not there."""
    return objects_of(_built(folder))


def rendered(overlay: str) -> list[Object]:
    """Give an overlay's objects."""
    return built(ROOT / "k8s" / "overlays" / overlay)


def objects_of(text: str) -> list[Object]:
    """Read objects from YAML."""
    return [each for each in yaml.safe_load_all(text) if each]


def written(name: str) -> list[Object]:
    """Give the objects of one file of the base, as they are written."""
    return objects_of((ROOT / "k8s" / "base" / name).read_text())


def find(objects: list[Object], kind: str, name: str = "") -> Object:
    """Give the one object of a kind (and name)."""
    (found,) = [o for o in objects if o["kind"] == kind and name in ("", o["metadata"]["name"])]
    return found


def beam_args(objects: list[Object]) -> list[str]:
    """Give the options with which the job's jar is made."""
    (init,) = find(objects, "FlinkDeployment")["spec"]["jobManager"]["podTemplate"]["spec"]["initContainers"]
    run, end_of_ours, *rest = init["args"]
    assert (run, end_of_ours) == ("run", "--")
    return rest


@functools.cache
def _definitions() -> dict[tuple[str, str], Object]:
    """Strict schemas by apiVersion and kind, from the operators' own definitions."""
    schemas = {}
    for path in (FETCHED / "crds").glob("*.yaml"):
        for crd in objects_of(path.read_text()):
            spec = crd["spec"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                schemas[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return schemas


def strict(schema: Object) -> Object:
    """Turn a structural schema into JSON Schema that refuses what an API server would drop without a word."""
    made = {k: v for k, v in schema.items() if not k.startswith("x-kubernetes-") and k not in {"description", "format"}}
    if "properties" in made:
        made["properties"] = {name: strict(each) for name, each in made["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    if isinstance(made.get("additionalProperties"), dict):
        made["additionalProperties"] = strict(made["additionalProperties"])
    if "items" in made:
        made["items"] = strict(made["items"])
    if schema.get("x-kubernetes-int-or-string"):
        made = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    for key in ("anyOf", "oneOf", "allOf"):
        if key in made:  # these only narrow what the schema beside them allows
            made[key] = [{k: v for k, v in each.items() if not k.startswith("x-kubernetes-")} for each in made[key]]
    if made.pop("nullable", False):
        made = {"anyOf": [made, {"type": "null"}]}
    return made


def problems(objects: list[Object], version: str) -> list[str]:
    """Say what an API server of this version, and the operators' definitions, have against the objects."""
    return [f"{o['kind']}/{o['metadata']['name']}: {text}" for o in objects for text in _problems_of(o, version)]


def _problems_of(item: Object, version: str) -> Iterator[str]:
    group = item["apiVersion"].rpartition("/")[0]
    if "." not in group or group.endswith(".k8s.io"):
        yield from _against_kubernetes(item, version)
        return
    schema = _definitions().get((item["apiVersion"], item["kind"]))
    if schema is None:
        yield f"no definition of {item['apiVersion']}"
        return
    # Some definitions leave out what every object has.
    body = {key: value for key, value in item.items() if key not in {"apiVersion", "kind", "metadata"}}
    import jsonschema

    for error in jsonschema.Draft202012Validator(schema).iter_errors(body):
        yield f"{error.json_path}: {error.message}"
    # Definitions say nothing of metadata, and a pod's template is a pod to the API server in the end.
    yield from _against_kubernetes({"apiVersion": "v1", "kind": "ConfigMap", "metadata": item["metadata"]}, version)
    for where, template in templates(item):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", **template.get("metadata", {})}}
        spec = {"containers": [], **template["spec"]}
        for text in _against_kubernetes({**pod, "spec": spec}, version):
            yield f"{where}: {text}"


def _against_kubernetes(item: Object, version: str) -> Iterator[str]:
    import kubernetes_validate

    try:
        kubernetes_validate.validate(item, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield error.message


def templates(item: Object) -> Iterator[tuple[str, Object]]:
    """Give where an object describes pods, and how."""
    spec = item.get("spec", {})
    if item["kind"] == "FlinkDeployment":
        for part in ("jobManager", "taskManager"):
            yield part, merged(spec.get("podTemplate", {}), spec[part].get("podTemplate", {}))
    elif item["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job"}:
        yield "template", spec["template"]


def merged(under: Object, over: Object) -> Object:
    """Lay one template over another, as the Flink operator does: maps by key, and these have no lists in common."""
    made = copy.deepcopy(under)
    for key, value in over.items():
        assert not (isinstance(value, list) and key in made)
        made[key] = merged(made[key], value) if isinstance(value, Mapping) and key in made else copy.deepcopy(value)
    return made


def careless(objects: list[Object]) -> list[str]:
    """Say where a container of ours could do more than it needs."""
    return [
        f"{item['kind']}/{item['metadata']['name']} {where}: {text}"
        for item in objects
        for where, template in templates(item)
        for text in _careless(template["spec"])
    ]


def _careless(spec: Object) -> Iterator[str]:
    of_pod = spec.get("securityContext", {})
    if of_pod.get("runAsNonRoot") is not True or not of_pod.get("runAsUser"):
        yield "may run as root"
    if of_pod.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "has no seccomp profile"
    if spec.get("automountServiceAccountToken") is not False:
        yield "every container has the token of the API server"
    for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
        if forbidden in spec:
            yield forbidden
    if any("hostPath" in volume for volume in spec.get("volumes", ())):
        yield "mounts the host"
    volumes = {volume["name"] for volume in spec.get("volumes", ())}
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        name, context = container["name"], container.get("securityContext", {})
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{name} can write to its image"
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"{name} can gain privileges"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name} has capabilities"
        if {"runAsUser", "runAsNonRoot", "seccompProfile"} & set(context):
            yield f"{name} overrides its pod"
        # Flink's own container has its share from the deployment's `resource`.
        if name != "flink-main-container":
            amounts = container.get("resources", {})
            if any(set(amounts.get(kind, {})) != {"cpu", "memory"} for kind in ("requests", "limits")):
                yield f"{name} has no bounds"
        if missing := {mount["name"] for mount in container.get("volumeMounts", ())} - volumes:
            yield f"{name} mounts {missing}, which there is not"
