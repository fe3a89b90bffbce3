"""The stateful step: memory is never ahead of the state, and what is rebuilt from the state decides as memory does."""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing import test_stream
from apache_beam.testing.util import assert_that
from apache_beam.transforms.userstate import BagStateSpec
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from routed import CLOSED_US, ROUTE, SECOND_US, START_US, Traffic, airing, average_of, batch, batched, joined, traffic
from sounds import in_order, plain_calibration
from states import Bag, Value

from matcher.bits import GRADIENT
from matcher.catalogue import Average
from matcher.route import household_digest
from pipeline import decide
from pipeline.decide import COMPACT_BATCHES, DecideRequests
from pipeline.kafka.topics import create_topics
from pipeline.messages.hushword_pb2 import Control, Decision, MediaFingerprint
from pipeline.messages.internal_pb2 import Batch, DeadLetter, Verdicts
from pipeline.options import Settings
from pipeline.source import DEAD_LETTERS
from pipeline.wire import average_to_message, decision_id

# Append times here are in the past or in the future by months: what is late does not depend on the test's speed.
SETTINGS = Settings(window_s=6.0)


class Told:
    """Stands where the follower of the media topic stands: says what it was told, newest of each id only."""

    def __init__(self) -> None:
        self.news: list[tuple[str, Any]] = []

    def tell(self, key: str, news: Average | Control | None) -> None:
        self.news.append((key, news))

    def since(self, number: int) -> tuple[list[tuple[str, Any]], int]:
        newest = dict(self.news[number:])
        return list(newest.items()), len(self.news)

    def stop(self) -> None:
        pass


class Ordered(Told):
    """Stands where the control topic stands."""

    is_current = True

    def __init__(self) -> None:
        super().__init__()
        self.shadow = False

    def in_shadow(self, _route: str) -> bool:
        return self.shadow

    def is_ordered(self, key: str) -> bool:
        order = dict(self.news).get(key)
        return order is not None and order.shadow != Control.OFF


class Step:
    """The DoFn with a state that can be taken back, and workers that can be lost."""

    def __init__(self, told: Told | None = None, settings: Settings = SETTINGS) -> None:
        self.told, self._settings = told or Told(), settings
        self.ordered = Ordered()
        self.state = {
            name: Bag() if isinstance(spec, BagStateSpec) else Value()
            for name, spec in {
                "version": DecideRequests.VERSION,
                "saved": DecideRequests.SNAPSHOT,
                "batches": DecideRequests.BATCHES,
            }.items()
        }
        self.lose_worker()

    def worker(self) -> DecideRequests:
        """The one that hears now."""
        return self._do_fn

    def back_to(self, worker: DecideRequests) -> None:
        """Go on with one from before, and what it has in memory."""
        self._do_fn = worker

    def lose_worker(self) -> None:
        """Go on in another process: with the state alone."""
        self._do_fn = DecideRequests(self._settings)
        self._do_fn._calibration = plain_calibration()
        self._do_fn._policy = decide.policy_of(self._settings)
        self._do_fn._working = {}
        self._do_fn._follower = self.told  # type: ignore[assignment]
        self._do_fn._controls = self.ordered  # type: ignore[assignment]

    def hear(self, heard: Batch, route: str = ROUTE) -> Verdicts:
        """One bundle that succeeds."""
        ((name, data),) = self._do_fn.process((route, heard.SerializeToString()), **self.state)
        assert name == route
        return Verdicts.FromString(data)

    def fail(self, heard: Batch) -> None:
        """One bundle of which nothing is kept: neither its output nor its state."""
        before = copy.deepcopy(self.state)
        self.hear(heard)
        self.state = before


def said(verdicts: Sequence[Verdicts]) -> tuple[list[Decision], list[MediaFingerprint], list[str]]:
    """All decisions, averages and dropped averages."""
    return (
        [Decision.FromString(data) for v in verdicts for data in v.decisions],
        [MediaFingerprint.FromString(data) for v in verdicts for data in v.averages],
        [media_id for v in verdicts for media_id in v.dropped_averages],
    )


def undisturbed(batches: Sequence[Batch]) -> tuple[list[Decision], list[MediaFingerprint], list[str]]:
    step = Step()
    return said([step.hear(heard) for heard in batches])


sizes = st.lists(st.integers(0, 24), min_size=1, max_size=6).filter(any)


# ---- memory and state ------------------------------------------------------------------------------------------------


@hypothesis_settings(max_examples=40)
@given(traffic(), sizes, st.sampled_from([1, 2, 5, COMPACT_BATCHES]))
def test_what_is_rebuilt_after_every_batch_decides_as_memory(made: Traffic, cut: list[int], compact: int) -> None:
    """Every batch in a new process, whether from blocks or from snapshots: the same decisions and averages."""
    batches = batched(made.heard(), cut)
    for number, heard in enumerate(batches):
        heard.halvings = number % 4  # how much was done is the data's by now
    expected = undisturbed(batches)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decide, "COMPACT_BATCHES", compact)
        step, found = Step(), []
        for heard in batches:
            step.lose_worker()
            found.append(step.hear(heard))
            assert len(step.state["batches"].read()) < compact
    assert said(found) == expected


@hypothesis_settings(max_examples=60)
@given(traffic(), sizes, st.data())
def test_a_failed_bundle_never_leaves_memory_ahead_of_the_state(
    made: Traffic, cut: list[int], data: st.DataObject
) -> None:
    """Given again, alone or together with what came next: the result is as if the bundle had never been tried."""
    batches = batched(made.heard(), cut)
    expected = undisturbed(batches)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decide, "COMPACT_BATCHES", data.draw(st.sampled_from([2, 3, COMPACT_BATCHES])))
        step, found = Step(), []
        for number, heard in enumerate(batches):
            trouble = data.draw(st.sampled_from(["none", "none", "fails", "fails twice", "fails with more", "lost"]))
            if trouble.startswith("fails"):
                following = batches[number + 1] if number + 1 < len(batches) else batch([], heard.low_mark_us)
                step.fail(joined(heard, following) if trouble == "fails with more" else heard)
            if trouble == "fails twice":
                step.fail(heard)
            if trouble == "lost":
                step.lose_worker()
            found.append(step.hear(heard))
    assert said(found) == expected


@hypothesis_settings(max_examples=30)
@given(traffic(), sizes, sizes)
def test_a_failed_bundle_may_come_again_in_other_pieces(made: Traffic, cut: list[int], other: list[int]) -> None:
    """After a failure the runner may compose its bundles anew: the last third is first tried in one composition."""
    heard = made.heard()
    at = 2 * len(heard) // 3
    first, tried, then = batched(heard[:at], cut)[:-1], batched(heard[at:], other), batched(heard[at:], cut)
    step = Step()
    found = [step.hear(part) for part in first]
    before = copy.deepcopy(step.state)
    for part in tried:
        step.hear(part)
    step.state = before
    found += [step.hear(part) for part in then]
    assert said(found) == undisturbed([*first, *then])


@pytest.mark.parametrize("others", [1, 2, 3])
def test_a_worker_that_failed_and_comes_back_has_nothing_of_its_own(others: int) -> None:
    """Meanwhile another one heard as many batches, with other things in them: memory must not take them for its own."""
    heard = in_order(*airing("m", 4, START_US))
    step = Step()
    parts = [batch(heard[:2], START_US)]
    found = [step.hear(parts[0])]
    first, before = step.worker(), copy.deepcopy(step.state)
    for at in range(2, 2 + 12 * others, 12):
        step.hear(batch(heard[at : at + 12], START_US))
    step.state = before  # all of these bundles failed
    step.lose_worker()
    then = [batch(heard[at : at + 2], START_US) for at in range(2, 2 + 2 * others, 2)]
    found += [step.hear(part) for part in then]
    step.back_to(first)
    rest = batch(heard[2 + 2 * others :], START_US)
    found.append(step.hear(rest))
    expected = undisturbed([*parts, *then, rest])
    assert len(expected[0]) == 4
    assert said(found) == expected


def test_a_mark_alone_that_fails_loses_no_average() -> None:
    """An event that a mark closes publishes its last average: also when the bundle with that mark failed first."""
    heard = in_order(*airing("m", 5, START_US))
    mark = batch([], START_US + CLOSED_US)
    calm = Step()
    calm.hear(batch(heard, START_US))
    expected = said([calm.hear(mark)])
    assert len(expected[1]) == 1
    for trouble in ("fails", "lost"):
        step = Step()
        step.hear(batch(heard, START_US))
        step.fail(mark)
        if trouble == "lost":
            step.lose_worker()
        assert said([step.hear(mark)]) == expected


def test_an_average_that_a_mark_closed_is_published_once() -> None:
    """What a mark has published is not published again by a process that rebuilds the route."""
    step = Step()
    step.hear(batch(in_order(*airing("m", 5, START_US)), START_US))
    closed = batch([], START_US + CLOSED_US)
    assert len(step.hear(closed).averages) == 1
    step.lose_worker()
    assert len(step.hear(closed).averages) == 0


def test_batches_are_folded_into_a_snapshot_now_and_then() -> None:
    """What a rebuild has to go through is bounded, and so is what the state holds."""
    step = Step()
    for number in range(2 * COMPACT_BATCHES + 10):
        growths = [airing("m", 1, START_US + number * SECOND_US)[0][0]]
        step.hear(batch(growths, START_US + number * SECOND_US))
        assert len(step.state["batches"].read()) < COMPACT_BATCHES
    assert len(step.state["batches"].read()) == 10
    assert len(step.state["saved"].read()) < 20_000


def test_a_mark_that_changes_nothing_writes_no_state() -> None:
    """Every route hears one every second: that must not cost a write."""
    step = Step()
    step.hear(batch(in_order(*airing("m", 1, START_US)), START_US))
    before = copy.deepcopy(step.state)
    step.hear(batch([], START_US + SECOND_US))
    assert step.state == before


# ---- averages from elsewhere -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["none", "fails", "lost", "lost with snapshot"])
def test_an_average_from_another_shard_decides_about_what_is_being_spoken(
    trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It arrives in the middle of a request, and decides at its next look: also when that look is tried twice."""
    monkeypatch.setattr(decide, "COMPACT_BATCHES", 2 if trouble == "lost with snapshot" else 256)
    (request,) = airing("m", 1, START_US)
    step = Step()
    assert not step.hear(batch(request[:5], START_US)).decisions
    step.told.tell("d-m", average_of("m", "computer/en-US/5", START_US - SECOND_US))
    if trouble == "fails":
        step.fail(batch(request[5:6], START_US))
    if trouble.startswith("lost"):
        step.lose_worker()
    (found,), _, _ = said([step.hear(batch(request[5:6], START_US))])
    assert (found.request_id, found.reason) == (request[0].request_id, Decision.DISCOVERED)
    step.lose_worker()
    assert not step.hear(batch(request[6:], START_US)).decisions


@hypothesis_settings(max_examples=40)
@given(traffic(), sizes, st.data())
def test_news_come_at_any_time_and_to_any_process(made: Traffic, cut: list[int], data: st.DataObject) -> None:
    """Averages are told, replaced and withdrawn between batches: a rebuilt route has heard them when memory had."""
    batches = batched(made.heard(), cut)
    news: dict[int, list[tuple[str, Average | None]]] = {}
    for number in data.draw(st.lists(st.integers(0, len(batches) - 1), max_size=5)):
        medium = data.draw(st.sampled_from(["m0", "m1", "m2"]))
        average = average_of(medium, "computer/en-US/5", START_US - SECOND_US, data.draw(st.integers(3, 9)))
        news.setdefault(number, []).append((f"d-{medium}", data.draw(st.sampled_from([average, average, None]))))
    found: dict[str, Any] = {}
    for kind in ("calm", "troubled"):
        step, verdicts = Step(), []
        for number, heard in enumerate(batches):
            for media_id, average in news.get(number, ()):
                step.told.tell(media_id, average)
            if kind == "troubled":
                trouble = data.draw(st.sampled_from(["none", "fails", "lost"]))
                if trouble == "fails":
                    step.fail(heard)
                elif trouble == "lost":
                    step.lose_worker()
            verdicts.append(step.hear(heard))
        decisions, averages, _ = said(verdicts)
        found[kind] = [(d.request_id, d.reason, d.media_id, d.decided_at_us) for d in decisions], averages
    assert found["calm"] == found["troubled"]


def test_ones_own_averages_come_back_from_the_topic_and_change_nothing() -> None:
    """However late, and in however old a version: what the route has itself is newer."""
    later = START_US + CLOSED_US + SECOND_US
    parts = [
        batch(in_order(*airing("m", 6, START_US))[:40], START_US),
        batch(in_order(*airing("m", 6, START_US))[40:], later - SECOND_US),
        batch(airing("m", 1, later)[0], later),
    ]
    expected = undisturbed(parts)
    assert expected[0][-1].reason == Decision.DISCOVERED
    assert len(expected[1]) >= 2
    step, found = Step(), []
    for part in parts:
        found.append(step.hear(part))
        if len(found) == 2:
            first = MediaFingerprint.FromString(found[0].averages[0])
            step.told.tell(first.media_id, decide_average(first))
    assert said(found) == expected


def test_an_average_that_a_learned_one_pushes_out_is_withdrawn_from_the_topic() -> None:
    """The catalogue is full: the one whose validity ends first leaves, here and on the topic."""
    step = Step(settings=Settings(window_s=6.0, catalogue_entries=1))
    old = average_of("old", "computer/en-US/5", START_US - 2 * SECOND_US)
    step.told.tell("d-old", old)
    assert not step.hear(batch([], START_US)).dropped_averages
    step.told.tell("d-new", average_of("new", "computer/en-US/5", START_US - SECOND_US))
    assert list(step.hear(batch([], START_US + 1)).dropped_averages) == ["d-old"]


def decide_average(message: MediaFingerprint) -> Average:
    from pipeline.wire import average_from_message

    return average_from_message(message)


def test_averages_of_another_wake_word_or_locale_do_not_decide() -> None:
    """The same sounds, but heard by those who wait for another word."""
    step = Step()
    for number, origin in enumerate(["alexa/en-US/0", "computer/de-DE/0"]):
        average = average_of("m", origin, START_US - SECOND_US)
        step.told.tell(f"d-{number}", dataclasses.replace(average, media_id=f"d-{number}"))
    assert not step.hear(batch(airing("m", 1, START_US)[0], START_US)).decisions


# ---- orders about media ----------------------------------------------------------------------------------------------


def blocking(message: MediaFingerprint) -> Control:
    return Control(by="somebody", block=message)


@pytest.mark.parametrize("trouble", ["none", "fails", "lost", "lost with snapshot"])
def test_a_block_is_obeyed_before_the_next_growth_and_by_whoever_comes_after(
    trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an airing: who was not ignored before is accepted, now and when it airs again."""
    monkeypatch.setattr(decide, "COMPACT_BATCHES", 2 if trouble == "lost with snapshot" else 256)
    later = START_US + 30 * SECOND_US
    step = Step()
    first = step.hear(batch(in_order(*airing("m", 3, START_US)), START_US))
    _, (average,), _ = said([first])
    step.ordered.tell(f"block/{average.media_id}", blocking(average))
    more = batch(in_order(*airing("m", 6, START_US + 3 * SECOND_US)), START_US)
    if trouble == "fails":
        step.fail(more)
    decisions, averages, dropped = said([step.hear(more)])
    assert (decisions, averages, dropped) == ([], [], [average.media_id])
    if trouble.startswith("lost"):
        step.lose_worker()
    heard = in_order(*airing("m", 5, later), *airing("n", 3, later))
    decisions, _, _ = said([step.hear(batch(heard, later))])
    assert {decision.household_id for decision in decisions} == {"home n 0", "home n 1", "home n 2"}
    step.ordered.tell(f"block/{average.media_id}", None)
    decisions, _, _ = said([step.hear(batch(in_order(*airing("m", 5, 2 * later - START_US)), 2 * later - START_US))])
    assert len(decisions) == 5


def test_a_block_is_for_its_wake_word_and_locale() -> None:
    step = Step()
    average = average_to_message(average_of("m", "computer/en-US/5", START_US), "computer/de-DE/0", GRADIENT.name)
    step.ordered.tell("block/d-m", blocking(average))
    assert len(step.hear(batch(in_order(*airing("m", 3, START_US)), START_US)).decisions) == 3


# ---- orders about households -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["none", "fails", "lost", "lost with snapshot"])
def test_an_erased_household_is_in_no_state_afterwards(trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor in what a route is rebuilt from: that is written anew at once. The others are decided as ever."""
    monkeypatch.setattr(decide, "COMPACT_BATCHES", 2 if trouble == "lost with snapshot" else 256)
    heard = in_order(*airing("m", 4, START_US))
    step = Step()
    step.hear(batch(heard, heard[-1].end_us))
    step.ordered.tell(f"erase/{household_digest('home m 2')}", Control(ordered_at_us=heard[-1].end_us))
    order = batch([], heard[-1].end_us + 1)
    if trouble == "fails":
        step.fail(order)
    _, (average,), (dropped,) = said([step.hear(order)])
    assert average.households == 3
    assert average.media_id != dropped
    if trouble.startswith("lost"):
        step.lose_worker()
    more = in_order(*airing("m", 1, START_US + 3 * SECOND_US))
    (found,), _, _ = said([step.hear(batch(more, START_US))])
    assert found.media_id == average.media_id
    state = [step.state["saved"].read(), *step.state["batches"].read()]
    assert not any(b"home m 2" in part for part in state)
    assert any(b"home m 3" in part for part in state)


def test_old_orders_to_erase_are_not_obeyed_again_by_a_new_worker() -> None:
    """What the household has asked since stays."""
    heard = in_order(*airing("m", 4, START_US))
    step = Step()
    step.ordered.tell(f"erase/{household_digest('home m 2')}", Control(ordered_at_us=START_US - 60 * SECOND_US))
    step.hear(batch(heard, heard[-1].end_us))
    step.lose_worker()
    step.hear(batch([], heard[-1].end_us + 1))
    (event,) = step.worker()._working[ROUTE].route.events.values()
    assert "home m 2" in event.households


# ---- what goes out ---------------------------------------------------------------------------------------------------


def test_dead_letters_pass_through_and_touch_no_state() -> None:
    """They travel on a route of their own."""
    step = Step()
    letters = [DeadLetter(value=b"what came", topic="t", partition=3, offset=9, stage="decode", error="garbage")]
    heard = batch([], START_US)
    heard.dead_letters.extend(letters)
    before = copy.deepcopy(step.state)
    verdicts = step.hear(heard, DEAD_LETTERS)
    assert list(verdicts.dead_letters) == letters
    assert verdicts.progress == heard.progress
    assert step.state == before


def test_progress_travels_with_the_verdicts() -> None:
    """It is committed when they have been written."""
    heard = batch(airing("m", 1, START_US)[0], START_US)
    heard.progress.needed[4] = 44
    assert Step().hear(heard).progress == heard.progress


def test_a_decision_says_why_and_whose() -> None:
    """One for each of four households, each once."""
    decisions, averages, _ = undisturbed([batch(in_order(*airing("m", 4, START_US)), START_US)])
    assert {d.request_id for d in decisions} == {f"m-{home}-{START_US}" for home in range(4)}
    assert len(decisions) == 4
    for decision in decisions:
        assert decision.decision_id == decision_id(decision.request_id)
        assert (decision.wake_word, decision.locale) == ("computer", "en-US")
        assert (decision.verdict, decision.reason) == (Decision.IGNORE, Decision.CONCURRENT)
        assert decision.household_id.startswith("home m ")
        assert decision.device_id == decision.household_id + "-d"
        assert 3 <= decision.households <= 4
        assert decision.calibration == "plain"
        assert START_US < decision.decided_at_us < START_US + 3 * SECOND_US
        assert 700 < decision.audio_used_ms <= 2400
        assert decision.audio_appended_us > START_US
    assert {average.media_id for average in averages} == {decision.media_id for decision in decisions}


# ---- in a runner -----------------------------------------------------------------------------------------------------


def test_in_a_runner_with_a_catalogue_on_a_real_topic(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beam's own state and bundles, two routes at once, and the catalogue read to its end before the first look."""
    from kafka import KafkaProducer

    from pipeline.wire import average_to_message

    monkeypatch.setattr(decide, "load_calibration", lambda _settings: plain_calibration())
    settings = Settings(
        bootstrap_servers=kafka,
        audio_topic="decide-audio",
        decisions_topic="decide-decisions",
        media_topic="decide-media",
        control_topic="decide-control",
        window_s=6.0,
    )
    create_topics(settings, 1)
    producer = KafkaProducer(bootstrap_servers=kafka)
    known = average_of("known", "computer/en-US/5", START_US - SECOND_US)
    producer.send("decide-media", average_to_message(known, ROUTE, GRADIENT.name).SerializeToString(), key=b"d-known")
    producer.close()

    heard = in_order(*airing("m", 4, START_US), *airing("known", 1, START_US), *airing("two", 2, START_US))
    other = "computer/en-US/1"
    stream = test_stream.TestStream()
    for at in range(0, len(heard), 7):
        both = [(name, batch(heard[at : at + 10], START_US).SerializeToString()) for name in (ROUTE, other)]
        stream = stream.add_elements(both)
    stream = stream.advance_watermark_to_infinity()

    def right(elements: Any) -> None:
        ignored: dict[str, set[str]] = {ROUTE: set(), other: set()}
        for name, data in elements:
            ignored[name] |= {Decision.FromString(d).request_id for d in Verdicts.FromString(data).decisions}
        expected = {f"m-{home}-{START_US}" for home in range(4)} | {f"known-0-{START_US}"}
        assert ignored == {ROUTE: expected, other: expected}

    options = PipelineOptions(["--streaming"])
    with beam.Pipeline(runner="BundleBasedDirectRunner", options=options) as pipeline:
        verdicts = (
            pipeline
            | stream.with_output_types(tuple[str, bytes])
            | beam.ParDo(DecideRequests(settings)).with_output_types(tuple[str, bytes])
        )
        assert_that(verdicts, right)
