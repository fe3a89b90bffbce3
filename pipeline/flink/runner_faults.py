"""Whether those whom a job is handed to answer: Beam waits a minute for a job server, and Flink forever for workers."""

import argparse
from collections.abc import Sequence

from pipeline.flink.rest import FlinkError, FlinkRest, is_address
from pipeline.options import ConfigError

ANSWER_S = 5.0
# Beam's own for one process: what the reader, which never ends, gives out would wait in them until it has.
_UNFIT = ("direct", "switchingdirect", "bundlebaseddirect", "fnapi")  # Beam takes names in any case
_LOOPBACK = ("127.0.0.1:", "localhost:", "[::1]:")


def check_runner(beam_args: Sequence[str]) -> None:
    """See whether the runner is fit, and its job server answers, the worker pool beside it, the Flink that is named.

    A pool elsewhere is for its task managers to reach, not for us.

    Raises:
        ConfigError: one sentence about what is unfit or does not answer, and the option that names it.

    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--runner", "--job_endpoint", "--environment_type", "--environment_config", "--flink_master"):
        parser.add_argument(option)
    given, _ = parser.parse_known_args(beam_args)
    if (given.runner or "").lower().rsplit(".", 1)[-1].removesuffix("runner") in _UNFIT:
        raise ConfigError(f"{given.runner} runs no stream: without Beam's option --runner the job has its own")
    if given.runner != "PortableRunner" or given.job_endpoint is None:
        return
    if not _answers(given.job_endpoint):
        raise ConfigError(
            f"no job server answered at {given.job_endpoint} within {ANSWER_S:.0f} s (Beam's option --job_endpoint)"
        )
    pool = given.environment_config or ""
    beside = pool.startswith(_LOOPBACK) and given.job_endpoint.startswith(_LOOPBACK)
    if given.environment_type == "EXTERNAL" and beside and not _answers(pool):
        raise ConfigError(
            f"no worker pool answered at {pool} within {ANSWER_S:.0f} s (Beam's option --environment_config):"
            " `hushword worker-pool` is one"
        )
    if given.flink_master is not None and is_address(given.flink_master):
        try:
            FlinkRest(given.flink_master).jobs()
        except FlinkError as error:
            raise ConfigError(f"{error} (Beam's option --flink_master)") from error


def _answers(address: str) -> bool:
    """Tell whether a gRPC server listens there; anything else never gets ready."""
    import grpc

    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(ANSWER_S)
        except grpc.FutureTimeoutError:
            return False
    return True
