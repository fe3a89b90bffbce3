"""A real job on a real Kafka: every metric of the documentation's table moves, and says what is on the topics."""

import base64
import json
import re
import time
from itertools import product
from pathlib import Path

import pytest
from known import message
from prometheus_client import CollectorRegistry, generate_latest
from records import RATE_HZ, noise
from sounds import write_recording
from watched import Samples, Served, paused, publish_faults, publish_odd_decisions, publish_requests, samples, wait

from pipeline.chunks import LETTER_STAGES
from pipeline.control import publish
from pipeline.decisions import DecisionLine, read_topic
from pipeline.exporter import Exporter
from pipeline.kafka.topics import create_topics
from pipeline.local.kafka import LocalKafka
from pipeline.local.process import free_port
from pipeline.logs import FIELDS
from pipeline.options import Settings
from pipeline.recordings.recording import Recording
from pipeline.recordings.replay import END_MARK_AFTER_S, replay
from pipeline.trial import running_job, trial_settings

PARTITIONS = 3
DOCUMENTED = Path(__file__).parent.parent / "docs" / "metrics.md"
# What takes fifty thousand chunks, a broker that refuses, a household that asks again, or an operator: there, and zero.
UNMOVED = {
    *("hushword_chunks_released_early_total", "hushword_commits_refused_total", "hushword_asked_again_total"),
    *("hushword_orders_total", "hushword_orders_left_out_total", "hushword_route_shadow"),
    *("hushword_blocked_total", "hushword_blocked_overflow_total", "hushword_routes_turned_to_shadow_total"),
    "hushword_erased_total",
}


def documented() -> dict[str, str]:
    """Names and types of the table's metrics."""
    rows = [line.split("|") for line in DOCUMENTED.read_text().splitlines() if line.startswith("| `hushword_")]
    return {row[1].strip(" `"): row[2].strip() for row in rows}


def total(found: Samples, name: str, **labels: str) -> float:
    """The sum over all series of a name that have these labels."""
    return sum(value for (other, pairs), value in found.items() if other == name and labels.items() <= set(pairs))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Two airings and people, in homes whose names would be found in anything that tells them."""
    folder = write_recording(tmp_path_factory.mktemp("recording"), 3, events=2, homes=4, live=8, reruns=1)
    manifest = folder / "manifest.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    for line in lines:
        line["household"], line["device"] = f"household-{line['household']}", f"device-{line['device']}"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Recording.load(folder)


def check_log(text: str, decisions: list[DecisionLine]) -> None:
    """A line for each decision; nobody's home or device, and no sound."""
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(set(line) <= set(FIELDS) for line in lines)
    told = {(line["request_id"], line["decision_id"]) for line in lines if "decision_id" in line}
    assert told == {(decision.request_id, decision.decision_id) for decision in decisions}
    assert not re.search("household-|device-", text)
    audio = noise(0, RATE_HZ // 10).tobytes()[:30]
    for sound in (repr(audio)[2:-1], audio.hex(), base64.b64encode(audio).decode()):
        assert sound not in text


def test_every_metric_moves_and_says_what_is_on_the_topics(recording: Recording) -> None:
    """And the probes: not ready before the catalogue is read, nor long after the broker is gone."""
    port = free_port()
    bounds = {"window_requests": 5, "partners": 2, "catalogue_ttl_s": 60}
    with LocalKafka() as broker:
        own = Settings(metrics_port=port, log_format="json", **bounds)
        settings = trial_settings(own, broker.bootstrap_servers)
        create_topics(settings, PARTITIONS)
        nobodys = message(77, wake_word="computer")
        publish(settings, settings.media_topic, {nobodys.media_id: nobodys.SerializeToString()})
        registry, served = CollectorRegistry(), Served(port)
        exporter = Exporter(settings, registry)
        exporter.start()
        try:
            with running_job(settings) as job:
                wait(job, lambda: served.get("/readyz")[0] > 0)
                status, body = served.get("/readyz")
                assert status == 503
                assert any("the media topic has not been read" in reason for reason in json.loads(body)["reasons"])
                assert served.get("/healthz")[0] == 200
                wait(job, lambda: served.get("/readyz")[0] == 200)

                replayed = replay(recording, settings, settings.audio_topic, 20.0)
                over_s = replayed.epoch_s + replayed.at_s + END_MARK_AFTER_S - 1
                wait(job, lambda: total(served.samples(), "hushword_low_mark_timestamp_seconds") >= over_s)
                chunks = replayed.chunks + publish_faults(settings)
                chunks += publish_requests(settings, settings.household_requests_per_minute + 3)
                wait(job, lambda: total(served.samples(), "hushword_growths_left_out_total") >= 2)
                wait(job, lambda: total(served.samples(), "hushword_media_records_left_out_total") == 2)
                wait(job, lambda: total(served.samples(), "hushword_requests_left_out_total") == 3)
                decisions = read_topic(settings)
                publish_odd_decisions(settings, decisions[0])

                def seen() -> Samples:
                    return samples(generate_latest(registry).decode())

                wait(job, lambda: total(seen(), "hushword_topic_malformed_decisions_total") == 1)
                wait(job, lambda: total(seen(), "hushword_topic_end_offset", topic=settings.audio_topic) > chunks)
                wait(job, lambda: total(seen(), "hushword_consumer_lag_records") == 0)
                wait(job, lambda: total(served.samples(), "hushword_reader_lag_records") == 0)
                of_job, of_topics = served.samples(), seen()
                check_log(job.log.read_text(), decisions)

                with paused(broker):
                    wait(job, lambda: served.get("/readyz")[0] == 503)
                    assert "has answered within" in served.get("/readyz")[1]
                    assert served.get("/healthz")[0] == 200
                wait(job, lambda: served.get("/readyz")[0] == 200)
        finally:
            exporter.stop()

    found = of_job | of_topics
    for name, kind in documented().items():
        series = name + ("_count" if kind == "histogram" else "")
        assert any(series == other for other, _ in found), f"{name} is not served"
        if kind != "gauge":  # one that was never set is not served
            assert (total(found, series) > 0) == (name not in UNMOVED), f"{name} has not moved as it should"

    assert total(of_job, "hushword_chunks_total") == chunks
    assert total(of_job, "hushword_assigned_partitions") == PARTITIONS
    assert total(of_job, "hushword_window_capacity_requests") == bounds["window_requests"]
    assert total(of_job, "hushword_catalogue_version") > 0
    newest_s = total(of_job, "hushword_catalogue_newest_timestamp_seconds")
    assert replayed.epoch_s < newest_s < replayed.epoch_s + 30
    assert abs(total(of_job, "hushword_last_poll_timestamp_seconds") - time.time()) < 300
    assert total(of_job, "hushword_low_mark_timestamp_seconds") > replayed.epoch_s + 30
    assert len(decisions) >= 6
    for late, shadow in product(("true", "false"), repeat=2):
        for reason in ("CONCURRENT", "DISCOVERED", "KNOWN"):
            kind_of = {"reason": reason, "late": late, "shadow": shadow}
            expected = sum(
                (d.reason, str(d.late).lower(), str(d.shadow).lower()) == (reason, late, shadow) for d in decisions
            )
            assert total(of_job, "hushword_decisions_total", **kind_of) == expected
            assert total(of_topics, "hushword_topic_decisions_total", **kind_of) == expected
    assert total(of_topics, "hushword_decision_latency_seconds_count") == len(decisions)
    assert total(of_topics, "hushword_topic_duplicate_decisions_total") == 1
    for reason in LETTER_STAGES:
        assert total(of_job, "hushword_dead_letters_total", reason=reason) == 1
        assert total(of_topics, "hushword_topic_dead_letters_total", reason=reason) == 1
    everything = " ".join(f"{name} {sorted(labels)}" for name, labels in found)
    assert not re.search("household-|device-|late-|3-0", everything)
