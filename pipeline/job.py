"""The streaming job: Kafka to Kafka, on any Beam runner."""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from typing import NoReturn

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from pipeline.decide import DecideRequests
from pipeline.errors import FailedError
from pipeline.flink.refusals import refusals_of
from pipeline.garbage import freeze_what_is_loaded
from pipeline.options import Settings
from pipeline.serving import serve
from pipeline.shared_counts import SharedCounts
from pipeline.sinks import CommitOffsets, WriteVerdicts
from pipeline.source import ReadRequests

# By its class name: plain "DirectRunner" picks another runner, or falls back to one without splittable DoFns.
LOCAL_RUNNER = "pipeline.local_runner.LocalRunner"

# All that Beam's job server says when it was Flink's REST interface that did not answer.
_CONNECTION = "java.net.ConnectException"

# A hint of its own makes an environment of its own: runners that start a Python process for each environment read in
# one and decide in another. In one process they wait for each other's interpreter lock, and decisions come late.
_READER_RAM = "512MB"

log = logging.getLogger(__name__)


class JobError(FailedError):
    """The job ended, and not because it was told to."""


def build(pipeline: beam.Pipeline, settings: Settings) -> None:
    """Wire the steps. Their labels are what a runner's saved state is found by: tests/test_job.py pins them."""
    reader = {"min_ram": _READER_RAM}
    routes, acknowledged = tuple[str, bytes], tuple[str, tuple[str, bytes]]
    _ = (
        pipeline
        | "Settings" >> beam.Create([settings.model_dump_json()], reshuffle=False).with_resource_hints(**reader)
        | "ReadRequests" >> beam.ParDo(ReadRequests()).with_output_types(routes).with_resource_hints(**reader)
        | "DecideRequests" >> beam.ParDo(DecideRequests(settings)).with_output_types(routes)
        | "WriteVerdicts" >> beam.ParDo(WriteVerdicts(settings)).with_output_types(acknowledged)
        | "CommitOffsets" >> beam.ParDo(CommitOffsets(settings))
    )


def run_job(settings: Settings, beam_args: Sequence[str], shared: SharedCounts | None = None) -> None:
    """Run until stopped.

    Args:
        settings: checked before.
        beam_args: for Beam and its runner; without a runner the local one is used.
        shared: where all processes of the job count; needed to serve metrics, and closed in the end.

    Raises:
        ConfigError: metrics cannot be served where the settings say.
        JobError: the runner gave up; the message is the innermost cause.

    """
    with ExitStack() as stack:
        if shared is not None:
            stack.callback(shared.close)
            serve(settings)
        _run(settings, beam_args, stack)


def _run(settings: Settings, beam_args: Sequence[str], stack: ExitStack) -> None:
    def stop(number: int, _frame: object) -> NoReturn:
        """End at once: what is not committed is read again by the next run, so nothing needs to be finished."""
        log.info("stopping on %s", signal.Signals(number).name)
        if standard.runner == "PortableRunner":  # and Beam's own cancelling does not reach a remote Flink
            log.warning("a job on a cluster goes on there until it is cancelled there")
        stack.close()
        logging.shutdown()
        sys.stderr.flush()
        os._exit(0 if number == signal.SIGTERM else 130)

    options = PipelineOptions(list(beam_args))
    standard = options.view_as(StandardOptions)
    standard.streaming = True
    if standard.runner is None:
        standard.runner = LOCAL_RUNNER
    signal.signal(signal.SIGTERM, stop)
    refusals = refusals_of(options)
    pipeline = beam.Pipeline(options=options)
    build(pipeline, settings)
    freeze_what_is_loaded()
    log.info("reading %s at %s", settings.audio_topic, settings.bootstrap_servers)
    try:
        result = pipeline.run()
        with refusals or nullcontext():
            result.wait_until_finish()
    except KeyboardInterrupt:
        stop(signal.SIGINT, None)
    except Exception as error:
        if refusals is not None and refusals.refused is not None:
            raise JobError(f"the job ended: {refusals.refused}") from error
        log.exception("the runner gave up")
        cause = _innermost(error)
        if _CONNECTION in cause:
            cause = f"the job server does not reach its Flink (its option --flink-master): {cause}"
        raise JobError(f"the job ended: {cause}") from error


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return f"{type(error).__name__}: {error}".splitlines()[0]
