import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.decisions import DecisionLine, DecisionsError, read_file, write_file
from pipeline.evaluate.score import rate_bound_95, score
from pipeline.messages import hushword_pb2 as pb
from pipeline.recordings.recording import Recording, RecordingError, Request, Truth


def _recording(*labels: Truth) -> Recording:
    requests = tuple(
        Request(label.request_id, "a.flac", float(n), "alexa", "en-US", f"h{n}", "d") for n, label in enumerate(labels)
    )
    return Recording(Path("small"), requests, {label.request_id: label for label in labels})


def _media(request_id: str, snr_db: float, households: int, expect: str = "ignore") -> Truth:
    return Truth(request_id, "media", "e", expect, snr_db, 0.5, households)


def _live(request_id: str) -> Truth:
    return Truth(request_id, "live", None, "accept", 10.0, 0.5, 0)


def _ignore(request_id: str, audio_used_ms: int = 1000, **more: object) -> DecisionLine:
    return DecisionLine.model_validate(
        {
            "request_id": request_id,
            "verdict": "IGNORE",
            "reason": "CONCURRENT",
            "media_id": "m",
            "households": 3,
            "audio_used_ms": audio_used_ms,
            "decided_at_s": 1.0,
            **more,
        }
    )


RECORDING = _recording(
    *(_media("m0", 20, 4), _media("m1", 20, 4), _media("m2", 0, 12), _media("m3", 10, 12), _media("m4", 10, 40)),
    *(_media("c0", 10, 12, "ignore_by_cache"), _media("c1", 10, 12, "ignore_by_cache")),
    *(_live("l0"), _live("l1"), _live("l2"), _live("l3")),
)


def test_recall_and_false_ignores_against_numbers_found_by_hand() -> None:
    """Five media requests, two re-runs, four people; each share is counted here by hand."""
    ignored = ["m0", "m2", "m3", "c1", "l2"]
    report = score(RECORDING, [_ignore(request_id) for request_id in ignored])
    assert (report.recall.ignored, report.recall.expected, report.recall.rate) == (3, 5, 0.6)
    by_snr = [(row.label, row.ignored, row.expected) for row in report.recall_by_snr]
    assert by_snr == [("20 dB", 1, 2), ("10 dB", 1, 2), ("0 dB", 1, 1)]
    by_size = [(row.label, row.ignored, row.expected) for row in report.recall_by_households]
    assert by_size == [
        ("3-4 households", 1, 2),
        ("5-9 households", 0, 0),
        ("10-29 households", 2, 2),
        ("30+ households", 0, 1),
    ]
    assert report.recall_by_households[1].rate is None
    assert (report.recall_large_loud.ignored, report.recall_large_loud.expected) == (1, 2)
    assert (report.recall_rerun.ignored, report.recall_rerun.expected) == (1, 2)
    assert report.false_ignores.request_ids == ("l2",)
    assert report.false_ignores.accepted_expected == 4
    assert report.false_ignores.upper_bound_95 == pytest.approx(0.7514, abs=1e-4)  # sum of P(X <= 1) = 0.05 at n = 4
    assert (report.requests, report.labelled, report.ignored) == (11, 11, 5)


def test_false_ignores_of_a_repeated_voice_are_told_from_those_of_strangers() -> None:
    """One voice three times; one beside two others; one alone beside media: only the truth's voice tells them apart."""
    said = {"a1": "ann", "a2": "ann", "a3": "ann", "b1": "bob", "c1": "cid", "d1": "dee", "e1": "eve", "t1": "fred"}
    truth = [replace(_live(request_id), voice=voice) for request_id, voice in said.items()]
    media = {"a": "own", "b": "three", "c": "three", "d": "three", "e": "on air", "t": "on air"}
    truth[-1] = replace(truth[-1], kind="media", event="e", expect="ignore")
    decisions = [_ignore(request_id, media_id=media[request_id[0]]) for request_id in said]
    wrong = score(_recording(*truth), decisions).false_ignores
    assert wrong.request_ids == ("a1", "a2", "a3", "b1", "c1", "d1", "e1")
    assert wrong.own_voice == ("a1", "a2", "a3")
    assert wrong.three_voices == ("b1", "c1", "d1")


def test_audio_used_is_counted_from_the_wake_word_of_ignored_media_only() -> None:
    """A re-run and a false ignore have no part in it; 0.5 s of pre-roll is taken off."""
    decided = [_ignore("m0", 900), _ignore("m1", 1100), _ignore("m2", 1300), _ignore("c0", 9000), _ignore("l0", 9000)]
    spread = score(RECORDING, decided).audio_used_after_wake_word_ms
    assert (spread.count, spread.p50, spread.p90) == (3, 600.0, 760.0)


def test_latency_late_and_shadow_are_counted_where_given() -> None:
    """Quantiles over those that have one."""
    decided = [_ignore("m0", latency_ms=10.0, late=True), _ignore("m1", latency_ms=30.0, shadow=True), _ignore("m2")]
    report = score(RECORDING, decided)
    assert (report.latency_ms.count, report.latency_ms.p50) == (2, 20.0)
    assert (report.late, report.shadow) == (1, 1)


def test_of_several_decisions_for_a_request_the_first_counts() -> None:
    """Duplicates are counted, conflicting ids too, and strangers are an error that is shown."""
    decided = [
        _ignore("m0", 900, decision_id="a"),
        _ignore("m0", 2000, decision_id="a"),
        _ignore("m1", 900, decision_id="b"),
        _ignore("m1", 900, decision_id="c"),
        _ignore("stranger"),
    ]
    report = score(RECORDING, decided)
    assert (report.duplicates, report.conflicting_decision_ids, report.unknown_requests) == (2, 1, ("stranger",))
    assert report.ignored == 2
    assert report.audio_used_after_wake_word_ms.p50 == 400.0


def test_no_decision_at_all_is_a_report_too() -> None:
    """Nothing was ignored: nothing to measure, and no false ignore."""
    report = score(RECORDING, [])
    assert report.recall.rate == 0
    assert report.latency_ms.p50 is None
    assert report.false_ignores.upper_bound_95 == pytest.approx(1 - 0.05 ** (1 / 4))


def test_an_unlabelled_recording_gets_one_sentence() -> None:
    """There is nothing to score by."""
    with pytest.raises(RecordingError, match="small is not labelled"):
        score(Recording(Path("small"), RECORDING.requests, {}), [])


def test_the_report_is_json_and_a_table() -> None:
    """Machines and people read the same numbers."""
    report = score(RECORDING, [_ignore("m0"), _ignore("l2"), _ignore("stranger")])
    plain = json.loads(json.dumps(report.to_json()))
    assert plain["recall"] == {"label": "all", "ignored": 1, "expected": 5, "rate": 0.2}
    assert plain["false_ignores"]["request_ids"] == ["l2"]
    assert plain["recall_by_snr"][0]["rate"] == 0.5
    shown = StringIO()
    Console(file=shown, width=120).print(report.table())
    assert "20.0%" in shown.getvalue()
    assert "ERROR: decided, not in the recording" in shown.getvalue()


@pytest.mark.parametrize(("count", "trials", "bound"), [(0, 10, 0.2589), (1, 10, 0.3942), (10, 10, 1.0), (0, 0, None)])
def test_the_bound_is_the_exact_binomial_one(count: int, trials: int, bound: float | None) -> None:
    """Against a published table of one-sided 95 % limits."""
    found = rate_bound_95(count, trials)
    assert found == (None if bound is None else pytest.approx(bound, abs=1e-4))


def test_a_decisions_file_reads_back_and_errors_name_the_line(tmp_path: Path) -> None:
    """Unknown fields are left alone; a missing or wrong one is refused."""
    path = tmp_path / "decisions.jsonl"
    decided = [_ignore("m0", decision_id="x", latency_ms=12.5), _ignore("m1")]
    write_file(path, decided)
    assert read_file(path) == decided
    assert "latency_ms" not in path.read_text(encoding="utf-8").splitlines()[1]
    for spoiled, says in (
        ("nonsense", "line 3: Invalid JSON"),
        ('{"request_id": "a"}', "line 3: verdict: Field required"),
        (_ignore("m2").model_dump_json().replace("IGNORE", "ACCEPT"), "line 3: verdict: Input should be 'IGNORE'"),
    ):
        write_file(path, decided)
        with path.open("a", encoding="utf-8") as file:
            file.write(spoiled + "\n")
        with pytest.raises(DecisionsError, match=says):
            read_file(path)
    with pytest.raises(DecisionsError, match="cannot be read"):
        read_file(tmp_path / "none")


def test_a_message_becomes_a_line() -> None:
    """Times turn into seconds of the recording, latency is append minus append."""
    message = pb.Decision(
        decision_id="d",
        request_id="r",
        verdict=pb.Decision.IGNORE,
        reason=pb.Decision.DISCOVERED,
        media_id="m",
        households=5,
        audio_used_ms=1200,
        decided_at_us=1_000_012_500_000,
        audio_appended_us=2_000_000_500_000,
        late=True,
    )
    line = DecisionLine.from_message(message, epoch_s=1_000_000.0, appended_ms=2_000_000_512)
    assert (line.decided_at_s, line.latency_ms, line.reason, line.late) == (12.5, 12.0, "DISCOVERED", True)
