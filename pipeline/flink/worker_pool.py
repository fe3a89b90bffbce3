"""Beam's Python workers beside a Flink task manager: a pool that starts one when it is asked for it, and the worker.

Beam's own pool listens on every address, and whoever reaches it can run code; containers of a pod share the loopback
address, so this one listens there. It also gives its workers the log of the settings, which Beam's leaves out.
"""

import importlib
import logging
import subprocess
import sys
from typing import Any, Self

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.runners.worker.sdk_worker import SdkHarness
from apache_beam.utils import thread_pool_executor

from pipeline.garbage import freeze_what_is_loaded
from pipeline.logs import configure_logs
from pipeline.options import ConfigError, load_settings

log = logging.getLogger("pipeline.flink.worker_pool")  # not __main__, which a worker's is

HOST = "127.0.0.1"
GRACE_S = 10.0


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Listens for the length of a `with`, and ends its workers with it.

    Args:
        port: on the loopback address; what runners are told with `--environment_type=EXTERNAL`.

    Raises:
        ConfigError: the port cannot be had.

    """

    def __init__(self, port: int) -> None:
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._server = grpc.server(thread_pool_executor.shared_unbounded_instance())
        beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(self, self._server)
        try:
            self._server.add_insecure_port(f"{HOST}:{port}")
        except RuntimeError as error:
            raise ConfigError(f"workers cannot be asked for at {HOST}:{port}: the port (--port) is taken") from error

    def StartWorker(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802  gRPC's signature
        """Start the process of one worker; what goes wrong with that is the runner's to tell."""
        command = [sys.executable, "-m", "pipeline.flink.worker_pool", request.worker_id, request.control_endpoint.url]
        try:
            self._workers[request.worker_id] = subprocess.Popen(command)
        except OSError as error:
            return beam_fn_api_pb2.StartWorkerResponse(error=f"no worker could be started: {error}")
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        """End one worker; one that is not known has ended."""
        if (process := self._workers.pop(request.worker_id, None)) is not None:
            _end(process)
        return beam_fn_api_pb2.StopWorkerResponse()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(grace=None).wait()
        for process in self._workers.values():
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def work(worker_id: str, control_endpoint: str) -> None:
    """Be a worker until the runner needs none."""
    configure_logs(load_settings().log_format)
    log.info("worker %s of %s", worker_id, control_endpoint)
    importlib.import_module("pipeline.job")  # what the job will ask for, so that it is loaded before ...
    freeze_what_is_loaded()
    SdkHarness(control_endpoint, worker_id=worker_id).run()


if __name__ == "__main__":
    work(*sys.argv[1:])
