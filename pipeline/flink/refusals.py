"""Ends a job on Flink that is refused something: Flink would start it again for ever, as it must after an outage."""

import logging
import re
import threading
import uuid
from typing import Self

import kafka.errors
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)

from pipeline.errors import InputError
from pipeline.flink.rest import Failure, FlinkError, FlinkRest, is_address
from pipeline.options import ConfigError

_POLL_S = 1.0
# One that a restart cures is none: rights that are replaced are gone for a moment. Restarts take seconds, or a minute
# at most where there were many.
_AGAIN_WITHIN_S = 300.0
_ERRORS = (kafka.errors.AuthorizationError, kafka.errors.SaslAuthenticationFailedError)

log = logging.getLogger(__name__)


def _names(error: type[BaseException]) -> set[str]:
    return {error.__name__}.union(*(_names(kind) for kind in error.__subclasses__()))


# As the end of a worker's traceback has it, amid Flink's own; of what a worker is given, files can be refused it. What
# these say who inherit from them may be an outage.
_KINDS = sorted({ConfigError.__name__, InputError.__name__}.union(*map(_names, _ERRORS)))
_REFUSAL = re.compile(rf"^(?:\w+\.)*({'|'.join(_KINDS)}): (.+?)(?: \[while running .*\])?$", re.MULTILINE)


def refusal(failure: str) -> str | None:
    """Give the line of a failure that says what brokers or settings refused a worker; None when nothing was refused.

    It need not be the last error: a reader that cannot go on says so, and what it was refused is the cause of that.
    """
    found = _REFUSAL.search(failure)
    return found and f"{found[1]}: {found[2]}"


def lasting_refusal(failures: list[Failure]) -> str | None:
    """Give what a job was refused, and after a restart was refused something again; failures come newest first."""
    if len(failures) < 2 or failures[0].at_s - failures[1].at_s > _AGAIN_WITHIN_S:
        return None
    return refusal(failures[0].said) and refusal(failures[1].said)


class Refusals:
    """Watches the job of a name on a Flink, in a thread of its own; cancels it when it is refused something again."""

    def __init__(self, flink: FlinkRest, job_name: str) -> None:
        self._flink, self._job_name = flink, job_name
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)
        self.refused: str | None = None  # what the job was cancelled for, in one line

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _run(self) -> None:
        answers = True
        while not self._stop.wait(_POLL_S):
            try:
                self._look()
            # A job manager that is away, or one that speaks otherwise; what it means for the job Beam hears.
            except (FlinkError, LookupError, TypeError) as error:
                if answers:
                    log.warning("nobody sees whether the job is refused something: %s", error)
                answers = False
            else:
                answers = True

    def _look(self) -> None:
        for job in self._flink.jobs():
            if job.name == self._job_name and not job.has_ended:
                refused = lasting_refusal(self._flink.failures(job.job_id))
                if refused is not None:
                    log.error("cancelling the job, which is refused what it needs: %s", refused)
                    self.refused = refused
                    self._flink.cancel(job.job_id)
                    self._stop.set()


def refusals_of(options: PipelineOptions) -> Refusals | None:
    """Give who watches the job of these options, which gets a name; None where they do not say where its Flink is."""
    flink = str(options.view_as(FlinkRunnerOptions).flink_master)
    runs_there = options.view_as(StandardOptions).runner in ("PortableRunner", "FlinkRunner")
    if not (runs_there and is_address(flink)) or options.view_as(PortableOptions).output_executable_path is not None:
        return None
    named = options.view_as(GoogleCloudOptions)
    named.job_name = named.job_name or f"hushword-{uuid.uuid4().hex[:12]}"
    return Refusals(FlinkRest(flink), named.job_name)
