"""The images' recipe and the laptop's composition: what can be told of them without an engine that builds and runs."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from manifests import FETCHED, ROOT

from pipeline.cli import main
from pipeline.options import ENV_PREFIX, Settings

IMAGES, COMPOSE = ROOT / "deploy" / "images", ROOT / "deploy" / "compose"
RECIPE = (IMAGES / "Dockerfile").read_text()
SERVICES = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("hushword")]


@pytest.mark.k8s
def test_the_linter_has_nothing_against_the_recipe(tmp_path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    clean = subprocess.run([hadolint, IMAGES / "Dockerfile"], capture_output=True, text=True, check=False)
    assert clean.returncode == 0, clean.stdout
    (tmp_path / "Dockerfile").write_text(RECIPE.replace(":3.11.14-slim-bookworm", ""))
    assert (
        "DL3006"
        in subprocess.run([hadolint, tmp_path / "Dockerfile"], capture_output=True, text=True, check=False).stdout
    )


def test_bases_have_versions_and_nothing_runs_as_root() -> None:
    bases = re.findall(r"^FROM (\S+) AS (\S+)$", RECIPE, re.MULTILINE)
    stages = {stage for _, stage in bases}
    assert all(re.search(r":\d", base) for base, _ in bases if base not in stages)
    assert bases[-1] == ("hushword", "hushword-jar")
    last = RECIPE.partition("AS hushword\n")[2]
    assert re.findall(r"^USER (\S+)$", last, re.MULTILINE) == ["9999:9999"]
    assert "RUN" not in last  # what runs is copied, nothing is fetched


def test_the_job_server_is_of_the_version_of_beam_and_flink_of_the_manifest() -> None:
    (flink, beam) = re.findall(r"^FROM apache/beam_flink([\d.]+)_job_server:(\S+) AS", RECIPE, re.MULTILINE)[0]
    assert f"\napache-beam=={beam}\n" in (ROOT / "constraints.txt").read_text()
    assert beam == version("apache-beam")
    deployment = (ROOT / "k8s" / "base" / "job.yaml").read_text()
    assert f"flinkVersion: v{flink.replace('.', '_')}\n" in deployment
    assert re.search(rf"image: flink:{re.escape(flink)}\.\d+-java17\n", deployment)
    assert "eclipse-temurin:17." in RECIPE


def test_everything_that_is_copied_is_there_and_sent() -> None:
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", RECIPE, re.MULTILINE)
    sent = (IMAGES / "Dockerfile.dockerignore").read_text().splitlines()
    for name in " ".join(copied).split():
        assert (ROOT / name).exists()
        assert f"!{name}" in sent


@pytest.mark.k8s
def test_the_composition_is_valid_to_the_letter() -> None:
    import jsonschema

    path = FETCHED / "crds" / "compose-spec.json"
    if not path.exists():
        pytest.skip("its schema is not there: `make test-k8s` fetches it")
    validator = jsonschema.Draft202012Validator(json.loads(path.read_text()))
    composition = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    assert not list(validator.iter_errors(composition))
    composition["services"]["job"]["commands"] = composition["services"]["job"].pop("command")
    assert list(validator.iter_errors(composition))


def test_services_name_files_services_and_settings_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (COMPOSE / source).exists()
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
    for name in OURS:
        for variable in SERVICES[name]["environment"]:
            assert variable.removeprefix(ENV_PREFIX).lower() in Settings.model_fields
        command = [word for word in SERVICES[name]["command"] if not word.startswith("-")]
        with pytest.raises(SystemExit) as ended:
            main([*command, "--help"])
        assert ended.value.code == 0
        shown = capsys.readouterr().out
        flags = {word.partition("=")[0] for word in SERVICES[name]["command"] if word.startswith("-")}
        assert all(flag in shown for flag in flags)
    config = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())
    jobs = {each["job_name"]: each["static_configs"][0]["targets"] for each in config["scrape_configs"]}
    metrics_port = SERVICES["job"]["environment"]["HUSHWORD_METRICS_PORT"]
    assert jobs == {"hushword": [f"job:{metrics_port}"], "hushword-monitor": ["monitor:8470"]}
    assert {target.partition(":")[0] for targets in jobs.values() for target in targets} <= set(SERVICES)
