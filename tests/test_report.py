"""The page of a report: complete, self-contained and bounded; and what it says about single requests."""

import base64
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import write_recording

from matcher.grid import SAMPLE_RATE_HZ
from pipeline import cli
from pipeline.decisions import DecisionLine, write_file
from pipeline.evaluate.against import Comparison
from pipeline.evaluate.near import Near, Watch
from pipeline.evaluate.offline import Heard, decide, hear
from pipeline.evaluate.report.cases import ILLUSTRATED, SOUND_S, Teller, aligned, bits_of, pictures
from pipeline.evaluate.report.page import ReportError, Run, require_report, write_report
from pipeline.evaluate.score import score
from pipeline.evaluate.sweep import sweep
from pipeline.options import Settings
from pipeline.recordings.recording import Recording

MEDIA = ("ignore", "ignore_by_cache")


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "img", "br", "hr", "link", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Airings that drown in noise, so that many are missed; one request is over before the first look."""
    folder = tmp_path_factory.mktemp("recording") / "loud <b> & grill"
    write_recording(folder, 5, events=3, homes=8, live=8, reruns=1, pairs=1, snr_db=(-14.0, 20.0, -14.0))
    loaded = Recording.load(folder)
    short = next(request for request in loaded.requests if loaded.truth[request.request_id].expect == "ignore")
    samples, rate_hz = loaded.audio(short)
    soundfile.write(folder / short.file, samples[: rate_hz // 2], rate_hz)
    return loaded


@pytest.fixture(scope="module")
def heard(hard: Recording) -> Heard:
    return hear(hard, Settings())


@pytest.fixture(scope="module")
def run(hard: Recording, heard: Heard) -> Run:
    decisions = decide(heard)
    return Run(decisions, score(hard, decisions), "one process")


@pytest.fixture(scope="module")
def watched(hard: Recording, heard: Heard) -> tuple[Watch, dict[str, DecisionLine]]:
    watch = Watch({request.request_id for request in hard.requests})
    return watch, {decision.request_id: decision for decision in decide(heard, observe=watch.of)}


@pytest.fixture(scope="module")
def page(hard: Recording, heard: Heard, run: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report beside a run that ignored one request less, and somebody who must not be."""
    live = next(label.request_id for label in hard.truth.values() if label.event is None)
    others = [run.decisions[0].model_copy(update={"request_id": live}), *run.decisions[1:]]
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, hard, run, heard, sweep(hard, heard), Run(others, score(hard, others), "other.jsonl"))
    return path.read_text(encoding="utf-8")


def missed(recording: Recording, run: Run) -> set[str]:
    decided = {decision.request_id for decision in run.decisions}
    return {label.request_id for label in recording.truth.values() if label.expect in MEDIA} - decided


def test_every_miss_is_on_the_page_with_its_why(hard: Recording, run: Run, page: str) -> None:
    """More are missed than have pictures; all of them are told."""
    gone = missed(hard, run)
    assert len(gone) > 3
    ids = {attributes.get("id") for _, attributes in Page(page).tags}
    assert gone <= ids
    assert "It has 500 ms of audio, and the first look takes 800 ms." in page


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    """No address, no script; pictures and sound are in it; what a recording is called is text."""
    found = Page(page)
    assert not found.open
    assert "http" not in page
    assert not {"script", "link", "iframe"} & {tag for tag, _ in found.tags}
    sources = [value for _, attributes in found.tags for name, value in attributes.items() if name in ("src", "href")]
    assert all(
        source.startswith(("data:", "#")) for source in sources + [a.get("xlink:href", "#") for _, a in found.tags]
    )
    assert "loud <b> & grill" in found.text
    anchors = {source[1:] for source in sources if source.startswith("#")}
    assert anchors <= {attributes.get("id") for _, attributes in found.tags}
    assert page.count("url(") == page.count("url(#")


def test_pictures_and_sound_are_bounded(page: str) -> None:
    """By number, and by the length of each sound."""
    sounds = Page(page).of("audio")
    assert 0 < len(sounds) <= 3 * 2 * ILLUSTRATED
    assert len(Page(page).of("img")) <= 3 * 3 * ILLUSTRATED
    for attributes in sounds:
        samples, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(attributes["src"].split(",")[1])))
        assert rate_hz == SAMPLE_RATE_HZ
        assert 0 < len(samples) <= SOUND_S * SAMPLE_RATE_HZ
    assert len(page) < 8_000_000


def test_a_page_says_what_the_report_says(run: Run, page: str) -> None:
    """The headline, every budget, and the other run."""
    text = Page(page).text
    recall = run.report.recall
    assert f"{recall.ignored} of {recall.expected} requests" in text
    assert f"at most {100 * (run.report.false_ignores.upper_bound_95 or 0):.1f}%" in text
    assert all(f"1e-0{exponent}" in text for exponent in range(2, 10))
    assert "Decided differently: 2 requests" in text
    assert Page(page).of("svg")


def test_only_so_many_are_illustrated(hard: Recording, watched: tuple[Watch, dict[str, DecisionLine]]) -> None:
    """Without decisions all are missed, and the rest of them stands in a table."""
    teller = Teller(hard, watched[0], list(watched[1].values()))
    cases = teller.missed([])
    assert len(cases) == sum(label.expect in MEDIA for label in hard.truth.values()) > ILLUSTRATED
    assert all(case.sounds for case in cases[:ILLUSTRATED])
    assert not any(case.sounds or case.pictures for case in cases[ILLUSTRATED:])
    ignored_alone = [case for case in cases if case.request_id in watched[1]]
    assert all("One process with these settings ignores it" in case.why for case in ignored_alone)


def test_margins_say_who_was_ignored(hard: Recording, watched: tuple[Watch, dict[str, DecisionLine]]) -> None:
    """Whoever was ignored passed at the score of the decision; nobody else passed anything."""
    watch, decided = watched
    assert decided
    for request in hard.requests:
        near = watch.best(request.request_id)
        if request.request_id not in decided:
            assert near is None or near.margin < 0
        else:
            assert near is not None
            assert near.margin >= 0
            assert decided[request.request_id].score in [
                pytest.approx(found.score, abs=1e-3)
                for (request_id, _), found in watch.nearest.items()
                if request_id == request.request_id
            ]
    assert any(near.margin < 0 for near in watch.nearest.values())


def test_a_picture_shows_the_bits_that_were_compared(watched: tuple[Watch, dict[str, DecisionLine]]) -> None:
    """At the alignment that is told, as many of them differ as the rate says; for averages and for other requests."""
    kinds = set()
    for (_, kind), near in watched[0].nearest.items():
        other, both = aligned(near)
        rate = (bits_of(near.words) != other)[both].mean()
        assert rate == pytest.approx(near.rate, abs=1e-6)
        kinds.add(kind)
    assert kinds == {"triple", "average"}


def test_bits_are_little_endian_and_shifted_the_right_way() -> None:
    """Bit 0 of a word is on top; word k of the request stands beside word k + alignment of the nearest."""
    words = np.array([1, 2, 4], np.uint64)
    assert bits_of(words)[:, :3].tolist() == np.eye(3).tolist()
    near = Near("triple", 960, 1.0, 2.0, words, "other", np.array([9, 1, 2], np.uint64), 1, 0.0)
    other, both = aligned(near)
    assert both.tolist() == [True, True, False]
    assert (other[both] == bits_of(words)[both]).all()
    assert "0 of 128 bits differ" in pictures(near, "other")[2].label
    assert "moved by -20 ms" in pictures(near, "other")[1].label


def test_why_counts_the_homes_that_sound_alike(
    hard: Recording, run: Run, watched: tuple[Watch, dict[str, DecisionLine]]
) -> None:
    """Each missed request of an airing is told against the other homes that heard it."""
    cases = Teller(hard, watched[0], list(watched[1].values())).missed(run.decisions)
    told = [case for case in cases if hard.truth[case.request_id].expect == "ignore"]
    assert told
    assert all("7 other homes that heard its airing sound" in case.why for case in told)
    assert any(case.why.startswith("Only ") for case in told)
    assert all(f"{hard.truth[case.request_id].snr_db:g} dB" in case.heading for case in told)
    ranked = [case.margin for case in told if case.margin is not None]
    assert ranked == sorted(ranked, reverse=True)


def test_two_runs_are_compared_request_by_request(hard: Recording, run: Run) -> None:
    """One that is only missed by the other counts for this run, one that is only here wrongly ignored against it."""
    live = next(label.request_id for label in hard.truth.values() if label.event is None)
    lost = run.decisions[0].request_id
    mine = [*run.decisions, run.decisions[0].model_copy(update={"request_id": live})]
    others = run.decisions[1:]
    found = Comparison.of(hard, (score(hard, mine), mine), (score(hard, others), others))
    assert {(change.request_id, change.ignored_here, change.better) for change in found.changed} == {
        (lost, True, True),
        (live, True, False),
    }
    rows = {name: (here, theirs) for name, here, theirs in found.measures()}
    assert rows["false ignores"] == ("1", "0")
    assert json.loads(json.dumps(found.to_json()))["changed"][0]["better"] is False


def test_the_command_writes_all_of_it(
    hard: Recording, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON on standard output, the page in its file, progress beside them; the decisions where they were asked for."""
    other, mine, page = tmp_path / "other.jsonl", tmp_path / "mine.jsonl", tmp_path / "report.html"
    write_file(other, run.decisions[1:])
    arguments = ["--sweep", "--report", str(page), "--against", str(other), "--offline", "--decisions", str(mine)]
    with pytest.raises(SystemExit) as ended:
        cli.main(["evaluate", str(hard.folder), "--json", *arguments])
    assert ended.value.code == 0
    said = capsys.readouterr()
    plain = json.loads(said.out)
    assert [row["budget"] for row in plain["sweep"]] == [pytest.approx(10.0**exponent) for exponent in range(-9, -1)]
    assert plain["recall"]["ignored"] == run.report.recall.ignored
    assert [change["request_id"] for change in plain["against"]["changed"]] == [run.decisions[0].request_id]
    assert "trying other budgets: 8 of 8" in said.err
    assert missed(hard, run) <= {attributes.get("id") for _, attributes in Page(page.read_text("utf-8")).tags}
    assert len(mine.read_text("utf-8").splitlines()) == len(run.decisions)


def test_what_cannot_be_is_one_sentence(hard: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is heard."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["evaluate", str(hard.folder), "--run", "--offline"])
    assert ended.value.code == cli.EXIT_BAD_INPUT
    assert "one of them is enough" in capsys.readouterr().err
    with pytest.raises(ReportError, match="there is no folder"):
        require_report(tmp_path / "none" / "report.html")


def test_a_recording_without_misses_says_so(hard: Recording, heard: Heard, run: Run, tmp_path: Path) -> None:
    """Neither media nor people: every list is empty, and every chart is drawn."""
    nobody = replace(
        hard, truth={i: label for i, label in hard.truth.items() if label.expect == "accept" and label.event}
    )
    decisions = [decision for decision in run.decisions if decision.request_id not in nobody.truth]
    path = tmp_path / "report.html"
    write_report(path, nobody, Run(decisions, score(nobody, decisions), "one process"), heard, sweep(nobody, heard))
    assert "every request that should have been ignored was" in path.read_text(encoding="utf-8")
