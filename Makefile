# Needs Python 3.11 or newer and make; everything else is fetched by the targets themselves into .venv and, for the
# Kafka and Flink of tests and demonstrations, into ~/.cache/hushword (or $HUSHWORD_CACHE).
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SOURCES := $(shell find matcher pipeline -type f -not -path '*/__pycache__/*' 2>/dev/null) README.md LICENSE NOTICE
RECORDING ?=
ARGS ?=

.PHONY: help setup demo evaluate test test-slow test-flink test-cluster flink test-browser test-device gcc lint format bench chromium proto picture screenshots clean test-prometheus test-k8s dashboards rules device-tables sbom audit

help:  ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(INSTALLED)  ## .venv with hushword and everything that it is developed with

$(VENV)/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "hushword needs Python 3.11 or newer, and there is none on the PATH" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "hushword needs Python 3.11 or newer, and $(PYTHON) is older: try make PYTHON=/path/to/python" >&2; exit 2; }
	@echo "setting up $(VENV): a minute or two, the first time" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off \
		--constraint constraints.txt '.[dev]'
	@touch $@

# What is tested and shown is the installed wheel, not the source tree.
$(INSTALLED): $(VENV)/.ready $(SOURCES)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off --no-deps --force-reinstall .
	@touch $@

demo: $(INSTALLED)  ## an advertisement wakes a street of homes, and hushword sends them back to sleep
	@$(BIN)/hushword demo $(ARGS)

evaluate: $(INSTALLED)  ## the job over a labelled recording: make evaluate RECORDING=folder [ARGS=...]
	@test -n "$(RECORDING)" || { echo "usage: make evaluate RECORDING=folder [ARGS='--speed 20 --json']" >&2; exit 2; }
	@$(BIN)/hushword evaluate "$(RECORDING)" --run $(ARGS)

test: $(INSTALLED)  ## all tests but the long ones
	$(BIN)/pytest -m "not slow and not flink and not browser and not prometheus and not device and not k8s and not cluster" $(ARGS)

test-slow: $(INSTALLED)  ## the long ones: whole recordings, ten thousand bad records
	$(BIN)/pytest -m "slow" $(ARGS)

test-flink: $(INSTALLED)  ## the job on a real Flink
	$(BIN)/pytest -m "flink and not slow" $(ARGS)

test-cluster: $(INSTALLED)  ## the job on a Flink session cluster of real processes
	$(BIN)/pytest -m "cluster and not slow" $(ARGS)

flink: $(INSTALLED)  ## a recording through Kafka and a Flink session cluster: make flink [RECORDING=folder] [ARGS=...]
	@$(BIN)/python deploy/flink $(if $(RECORDING),"$(RECORDING)") $(ARGS)

chromium:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } \
		|| { echo "Chromium is missing: install the package chromium, which takes root" >&2; exit 2; }

test-browser: $(INSTALLED) chromium  ## the live page in a real Chromium, which apt-get installs for root
	$(BIN)/pytest -m "browser" $(ARGS)

gcc:
	@{ command -v arm-linux-gnueabihf-gcc && command -v qemu-arm; } >/dev/null || { test "$$(id -u)" = 0 \
		&& command -v apt-get >/dev/null && apt-get update -qq \
		&& apt-get install -y -qq gcc-arm-linux-gnueabihf libc6-dev-armhf-cross qemu-user >/dev/null; } \
		|| echo "no compiler for ARM, or no qemu-arm: what they would show is left out" >&2
	@{ command -v gcc && command -v valgrind; } >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -y -qq gcc libc6-dev valgrind >/dev/null; } \
		|| { echo "gcc or valgrind is missing: install these packages, which takes root" >&2; exit 2; }

test-device: $(INSTALLED) gcc  ## the matcher for devices, with gcc, valgrind and qemu, which apt-get installs for root
	$(BIN)/pytest -m "device" $(ARGS)

device-tables: $(VENV)/.ready  ## deploy/device/hushword_tables.h, from the filters
	@$(BIN)/python deploy/device/tables.py

test-prometheus: $(INSTALLED)  ## rules, dashboards and an incident on a real Prometheus
	@bash deploy/prometheus/fetch
	$(BIN)/pytest -m "prometheus" $(ARGS)

test-k8s: $(INSTALLED)  ## the manifests, rendered, against the operators' own definitions; and the images' recipe
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar off \
		--constraint constraints.txt '.[k8s]'
	@$(BIN)/python k8s/fetch.py
	$(BIN)/pytest -m "k8s" $(ARGS)

lint: $(VENV)/.ready  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.ready  ## what ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## speed, latency and memory, each beside a baseline
	@$(BIN)/python -m bench $(ARGS)

dashboards: $(VENV)/.ready  ## deploy/grafana/*.json, from the Python beside them
	@$(BIN)/python deploy/grafana

rules: $(VENV)/.ready  ## k8s/components/prometheus/rules.yaml, from deploy/prometheus
	@$(BIN)/python deploy/prometheus

picture: $(INSTALLED)  ## docs/demo.svg: the demonstration runs for real, and its terminal is drawn
	@$(BIN)/python docs/record_demo.py docs/demo.svg

screenshots: $(INSTALLED) chromium  ## docs/monitor-*.png: the live page while the demonstration runs for real
	@$(BIN)/python docs/screenshot_page.py docs

proto: pipeline/messages/hushword.proto pipeline/messages/internal.proto  ## the code of the messages, made anew
	@test -x .venv-proto/bin/python || { $(PYTHON) -m venv .venv-proto && .venv-proto/bin/python -m pip install --quiet grpcio-tools==1.71.2; }
	.venv-proto/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. $^

# In an environment of their own: what is listed is what hushword takes, not what lists it.
.venv-audit/.ready:
	@$(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/python -m pip install --disable-pip-version-check --quiet --progress-bar off \
		cyclonedx-bom==7.5.0 pip-audit==2.10.1
	@touch $@

sbom: .venv-audit/.ready  ## dist/sbom.json: every package at its pinned version, in CycloneDX
	@mkdir -p dist
	@.venv-audit/bin/python -W ignore -m cyclonedx_py requirements constraints.txt --pyproject pyproject.toml \
		--output-reproducible --output-file dist/sbom.json
	@$(PYTHON) -c 'import json; print("dist/sbom.json:", len(json.load(open("dist/sbom.json"))["components"]), "packages")'

audit: sbom  ## the pinned packages against the known vulnerabilities; takes the internet
	@.venv-audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict --progress-spinner off \
		|| { echo "the pinned packages are not known to be sound: one has a vulnerability, or the database did not answer" >&2; exit 1; }

clean:  ## everything that make made here
	rm -rf $(VENV) .venv-proto .venv-audit build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
