"""Known media with the whole job on a real Kafka: entries come and go, and it decides as one process does."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from kafka import KafkaProducer, TopicPartition
from known import message, write_media
from records import pieces
from sounds import hear, write_recording
from stage import Stage, truth_of
from test_cli import _run

from pipeline.decisions import DecisionLine
from pipeline.evaluate.media import KnownRecordings
from pipeline.evaluate.offline import decide
from pipeline.evaluate.offline import hear as hear_recording
from pipeline.evaluate.score import score
from pipeline.messages.hushword_pb2 import AudioChunk
from pipeline.options import Settings
from pipeline.recordings.recording import Recording
from pipeline.trial import Job, run_trial

S = 1_000_000
# Within this time of an entry's append, the job has taken it in: what a promise of a second leaves of it.
TAKES_EFFECT_S = 1.0
names = itertools.count()


class Street(Stage):
    """Homes that ask one after the other, and somebody who has recordings."""

    def __enter__(self) -> Self:
        super().__enter__()
        self.producer = KafkaProducer(bootstrap_servers=self.settings.bootstrap_servers, acks="all")
        return self

    def __exit__(self, *error: object) -> None:
        self.producer.close()
        super().__exit__(*error)  # type: ignore[arg-type]

    def put(self, key: str, value: bytes | None) -> None:
        """Write an entry, and give it the time that it may take."""
        self.producer.send(self.settings.media_topic, value, key=key.encode()).get(10)
        time.sleep(TAKES_EFFECT_S)

    def told(self) -> int:
        """Give how far the dead letters of the media topic are written, as the job has committed it."""
        at = TopicPartition(self.settings.media_topic, 0)
        found = self.admin.list_group_offsets(self.settings.group_id)[self.settings.group_id]
        return found[at].offset if at in found else 0

    def asked(self, job: Job, ad_seed: int) -> DecisionLine | None:
        """Let one home hear an advertisement, and wait until the job is done with its request; gives the decision."""
        request_id = f"request-{next(names)}"
        now_us = round(time.time() * S)
        samples = hear(ad_seed, sum(request_id.encode()))
        sent = [
            self.producer.send(self.settings.audio_topic, piece.value, partition=0)
            for piece in pieces(request_id, now_us - 3 * S, [100] * 30, samples=samples)
        ]
        end = AudioChunk(low_mark_us=now_us + 1).SerializeToString()
        ends = [self.producer.send(self.settings.audio_topic, end, partition=p).get(10) for p in range(self.partitions)]
        for future in sent:
            future.get(10)
        self.wait_past(job, {at.partition: at.offset + 1 for at in ends})
        found = [decision for decision in self.decisions() if decision.request_id == request_id]
        assert len(found) <= 1
        return found[0] if found else None


@pytest.fixture
def street(kafka: str) -> Iterator[Street]:
    # A short window: a request is done with when it has left it.
    with Street(kafka, f"known-{next(names)}", 2, window_s=1.0) as made:
        yield made


def test_entries_come_and_go_while_the_job_runs_and_outlive_it(
    street: Street, capsys: pytest.CaptureFixture[str]
) -> None:
    """One home is enough; a record that is no fingerprint is a dead letter, once, and nothing else."""
    with street.job() as job:
        assert street.asked(job, 5) is None
        street.put("k-5", message(5).SerializeToString())
        found = street.asked(job, 5)
        assert found is not None
        assert (found.reason, found.media_id, found.households) == ("KNOWN", "k-5", 1)
        assert street.asked(job, 6) is None
        roles = ("bootstrap_servers", "audio_topic", "decisions_topic", "media_topic", "control_topic", "window_s")
        flags = [f"--{name.replace('_', '-')}={getattr(street.settings, name)}" for name in roles]
        code, out, _ = _run(capsys, "explain", found.request_id, *flags)
        assert code == 0
        assert f"ignored (KNOWN) by k-5, a clean recording, with {found.audio_used_ms} ms" in out
        assert "published: IGNORE, KNOWN, k-5" in out
        street.put("k-bad", b"\xff no fingerprint")
        assert street.asked(job, 5) is not None
        street.put("k-5", None)
        assert street.asked(job, 5) is None
        street.put("k-5", message(5).SerializeToString())
        street.wait(job, lambda: len(street.records(street.settings.dead_letter_topic)) == 1)
        street.wait(job, lambda: street.told() == len(street.records(street.settings.media_topic)))
    with street.job() as job:
        again = street.asked(job, 5)
        assert again is not None
        assert (again.reason, again.media_id) == ("KNOWN", "k-5")
        assert street.asked(job, 6) is None
    (letter,) = street.records(street.settings.dead_letter_topic)
    headers = {name: value.decode() for name, value in letter.headers}
    assert (letter.key, letter.value) == (b"k-bad", b"\xff no fingerprint")
    assert (headers["topic"], headers["stage"]) == (street.settings.media_topic, "media")
    flags = [
        "--bootstrap-servers", street.settings.bootstrap_servers, "--audio-topic", street.settings.audio_topic,
    ]  # fmt: skip
    code, out, _ = _run(capsys, "dlq", "list", *flags)
    assert code == 0
    assert "media:" in out
    media = ["--media-topic", street.settings.media_topic]
    code, out, _ = _run(capsys, "dlq", "redrive", *flags, *media)
    assert (code, "1 of 1 were sent" in out) == (0, True)
    sent = street.records(street.settings.media_topic)[-1]
    assert (sent.key, sent.value, sent.headers) == (b"k-bad", b"\xff no fingerprint", [("redriven", b"1")])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recording, Path]:
    """Airings in four homes, in two, and once more in one; people; and clean recordings of the first and the last."""
    folder = tmp_path_factory.mktemp("known")
    recording = write_recording(folder / "street", 3, events=2, homes=4, live=6, reruns=1, pairs=1, minutes=1.2)
    return Recording.load(recording), write_media(folder / "clean", {"e0": 3000, "e2": 3002}, "computer")


def told(decisions: list[DecisionLine]) -> list[tuple[str, str, str, int, float | None]]:
    return sorted((d.request_id, d.reason, d.media_id, d.audio_used_ms, d.score) for d in decisions)


def test_the_job_decides_as_one_process_does(small: tuple[Recording, Path], kafka: str) -> None:
    """Also about what only two homes hear; the others go on as ever, and no person is ignored."""
    recording, table = small
    known = KnownRecordings.read([table], Settings())
    expected = known.expected_of(recording)
    trial = run_trial(recording, Settings(), kafka, speed=None, media=known.entries)
    alone = decide(hear_recording(recording, Settings(), known=known.catalogue(Settings())))
    assert told(trial.decisions) == told(alone)
    assert trial.dead_letters == 0
    ignored = {decision.request_id for decision in alone}
    assert ignored == truth_of(expected, "ignore", "ignore_by_cache")
    report = score(expected, alone)
    assert report.recall_known.ignored == report.recall_known.expected == 8
    assert report.reasons["KNOWN"] > 0
    assert report.false_ignores.request_ids == ()
