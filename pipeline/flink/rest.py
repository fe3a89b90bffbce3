"""What Flink's REST interface tells of its jobs, and how one is cancelled."""

import json
import time
import urllib.request
from dataclasses import dataclass
from typing import Any

from pipeline.errors import FailedError

TIMEOUT_S = 10.0
CANCELLED_WITHIN_S = 60.0
_ENDED = {"CANCELED", "FAILED", "FINISHED"}


class FlinkError(FailedError):
    """Flink's REST interface did not answer, or a job did not do as it was told."""


def is_address(flink_master: str) -> bool:
    """Tell whether Beam's option says where a job manager is, and not which one Beam shall choose."""
    return flink_master not in ("[auto]", "[local]", "[collection]")


@dataclass(frozen=True)
class FlinkJob:
    """A job as Flink's REST interface tells of it."""

    job_id: str
    name: str
    state: str  # CREATED, RUNNING, RESTARTING, FAILING, FAILED, CANCELLING, CANCELED, FINISHED ...

    @property
    def has_ended(self) -> bool:
        """Whether it will never run again."""
        return self.state in _ENDED


@dataclass(frozen=True)
class Checkpoint:
    """A completed checkpoint."""

    number: int
    size_bytes: int
    duration_ms: int
    path: str  # what --savepoint_path takes


@dataclass(frozen=True)
class Failure:
    """What made a job restart, or end."""

    at_s: float  # Unix time
    said: str  # Java's stack trace, with the Python worker's in it


class FlinkRest:
    """The jobs of the job manager at `rest_address`, where Flink's own page is: host and port, or the page's address.

    Raises:
        FlinkError: from every method, when it does not answer.

    """

    def __init__(self, rest_address: str) -> None:
        self.rest_address = rest_address

    def task_managers_reported(self) -> int:
        """How many task managers the job manager knows."""
        return int(self._rest("/overview")["taskmanagers"])

    def jobs(self) -> list[FlinkJob]:
        """All jobs that the job manager knows, newest first."""
        found = sorted(self._rest("/jobs/overview")["jobs"], key=lambda job: -job["start-time"])
        return [FlinkJob(job["jid"], job["name"], job["state"]) for job in found]

    def running_job(self) -> FlinkJob | None:
        """Give the newest job that has not ended, else None."""
        return next((job for job in self.jobs() if not job.has_ended), None)

    def failures(self, job_id: str) -> list[Failure]:
        """Give a job's latest failures, newest first."""
        found = self._rest(f"/jobs/{job_id}/exceptions")["exceptionHistory"]["entries"]
        failures = (Failure(entry["timestamp"] / 1000, entry["stacktrace"]) for entry in found)
        return sorted(failures, key=lambda failure: -failure.at_s)

    def latest_checkpoint(self, job_id: str) -> Checkpoint | None:
        """Give a job's latest completed checkpoint, None when there is none yet."""
        found = self._rest(f"/jobs/{job_id}/checkpoints")["latest"]["completed"]
        if found is None:
            return None
        return Checkpoint(found["id"], found["state_size"], found["end_to_end_duration"], found["external_path"])

    def checkpoint_parts(self, job_id: str, number: int) -> dict[str, int]:
        """Give the size in bytes of each task's part of a checkpoint, by the task's name."""
        tasks = self._rest(f"/jobs/{job_id}/checkpoints/details/{number}")["tasks"]
        return {
            vertex["name"]: tasks[vertex["id"]]["state_size"] for vertex in self._rest(f"/jobs/{job_id}")["vertices"]
        }

    def checkpoint_counts(self, job_id: str) -> tuple[int, int]:
        """Give how many checkpoints of a job were completed, and how many failed."""
        counts = self._rest(f"/jobs/{job_id}/checkpoints")["counts"]
        return counts["completed"], counts["failed"]

    def heaps_bytes(self) -> dict[str, int]:
        """Give what is used of the Java heap, by task manager, and of the job manager's."""
        paths = {"job-manager": "/jobmanager/metrics"}
        for manager in self._rest("/taskmanagers")["taskmanagers"]:
            paths[manager["id"]] = f"/taskmanagers/{manager['id']}/metrics"
        found = {name: self._rest(f"{path}?get=Status.JVM.Memory.Heap.Used") for name, path in paths.items()}
        return {name: int(values[0]["value"]) for name, values in found.items() if values}

    def cancel(self, job_id: str) -> None:
        """End a job, and return when it has ended; its last checkpoint is retained."""
        self._rest(f"/jobs/{job_id}?mode=cancel", method="PATCH")
        until_s = time.monotonic() + CANCELLED_WITHIN_S
        while any(job.job_id == job_id and not job.has_ended for job in self.jobs()):
            if time.monotonic() > until_s:
                raise FlinkError(f"job {job_id} was not cancelled within {CANCELLED_WITHIN_S:g} s")
            time.sleep(0.1)

    def cancel_all(self) -> None:
        """End every job that has not ended."""
        for job in self.jobs():
            if not job.has_ended:
                self.cancel(job.job_id)

    def _rest(self, path: str, method: str = "GET") -> Any:
        address = self.rest_address if "://" in self.rest_address else f"http://{self.rest_address}"
        request = urllib.request.Request(f"{address.rstrip('/')}{path}", method=method)  # noqa: S310  as it was given
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310  its own address
                return json.loads(answer.read())
        except (OSError, ValueError) as error:
            raise FlinkError(f"Flink's REST interface at {self.rest_address} did not answer: {error}") from error
