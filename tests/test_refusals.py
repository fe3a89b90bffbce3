"""What a refusal is, as Flink tells of it, and what is an outage, after which a job goes on."""

import traceback

import kafka.errors
import pytest

from pipeline.errors import InputError
from pipeline.flink.refusals import lasting_refusal, refusal
from pipeline.flink.rest import Failure
from pipeline.options import ConfigError
from pipeline.reading import TopicError

REFUSED = [
    kafka.errors.TopicAuthorizationFailedError("hushword-audio"),
    kafka.errors.GroupAuthorizationFailedError("hushword"),
    kafka.errors.SaslAuthenticationFailedError("Authentication failed"),
    ConfigError("setting sasl_password_file = /etc/password cannot be read: No such file or directory"),
    InputError("the key file ids.key cannot be read: Permission denied"),
]
OUTAGES = [
    kafka.errors.KafkaTimeoutError("Batch for audio-1 containing 7 record(s) expired: TopicAuthorizationFailedError"),
    kafka.errors.NodeNotReadyError(1),
    kafka.errors.NotLeaderForPartitionError("audio"),
    ConnectionResetError("Connection reset by peer"),
    RuntimeError("a worker was lost"),
    TopicError("topic audio cannot be read: no broker answered"),
]


def failure(error: BaseException, at_s: float = 0.0, step: str = "") -> Failure:
    """Write an error down as Flink 1.19 does that has it from a Beam worker; `step` as Beam names it, when it does."""
    worker = "Traceback (most recent call last):\n" + "".join(traceback.format_exception(error)).rstrip("\n") + step
    said = (
        "org.apache.flink.runtime.taskmanager.AsynchronousException: Caught exception while processing timer.\n"
        "\tat org.apache.flink.streaming.runtime.tasks.StreamTask.handleAsyncException(StreamTask.java:1617)\n"
        "Caused by: java.util.concurrent.ExecutionException: java.lang.RuntimeException: Error received from SDK"
        f" harness for instruction 4: {worker}\n\n"
        "\tat java.base/java.util.concurrent.CompletableFuture.reportGet(Unknown Source)\n"
        f"Caused by: java.lang.RuntimeException: Error received from SDK harness for instruction 4: {worker}\n\n"
        "\tat org.apache.beam.runners.fnexecution.control.FnApiControlClient.accept(FnApiControlClient.java:1)\n"
    )
    return Failure(at_s, said)


@pytest.mark.parametrize("error", REFUSED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", ["", " [while running 'CommitOffsets']"])
def test_the_line_of_a_refusal_is_found(error: Exception, step: str) -> None:
    assert refusal(failure(error, step=step).said) == f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: type(error).__name__)
def test_an_outage_is_none(error: Exception) -> None:
    assert refusal(failure(error).said) is None


def test_a_refusal_that_something_else_came_of_is_found() -> None:
    """As of a reader in a thread of its own: it says that it cannot follow its topic, and why."""
    ended = RuntimeError("media cannot be followed any more")
    ended.__cause__ = REFUSED[3]
    assert refusal(failure(ended).said) == f"ConfigError: {REFUSED[3]}"


def test_nothing_that_goes_by_itself_is_a_refusal() -> None:
    """Of all that brokers answer: what a client would try again is never what a job ends for."""
    kinds = [kind for kind in vars(kafka.errors).values() if isinstance(kind, type)]
    errors = [kind("x") for kind in kinds if issubclass(kind, kafka.errors.KafkaError)]
    retriable = [error for error in errors if error.retriable]
    assert len(retriable) > 20
    assert [error for error in retriable if refusal(failure(error).said)] == []


def test_it_lasts_when_a_restart_ends_in_it_again() -> None:
    denied, other = REFUSED[0], OUTAGES[0]
    first, again = failure(denied, 100.0), failure(REFUSED[1], 110.0)
    assert lasting_refusal([again, first]) == f"TopicAuthorizationFailedError: {denied}"
    assert lasting_refusal([]) is None
    assert lasting_refusal([first]) is None
    assert lasting_refusal([failure(other, 120.0), again, first]) is None
    assert lasting_refusal([again, failure(other, 105.0), first]) is None
    assert lasting_refusal([failure(denied, 86_500.0), first]) is None
