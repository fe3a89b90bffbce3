"""The local runner keeps no bundle's metrics, and state's values are weighed well enough."""

import gc
import types
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.coders import BytesCoder
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner, fn_runner
from apache_beam.runners.worker import statecache
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from pipeline.local_runner import LocalRunner, rough_size

BUNDLES = 30


class _Counted(RestrictionProvider):
    def initial_restriction(self, element: int) -> OffsetRange:
        return OffsetRange(0, element)

    def create_tracker(self, restriction: OffsetRange) -> OffsetRestrictionTracker:
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, element: int, restriction: OffsetRange) -> int:  # noqa: ARG002
        return int(restriction.size())


class _OneABundle(beam.DoFn):
    """Emits, bundle by bundle, how many generators of metrics are alive."""

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        _element: int,
        tracker: Any = beam.DoFn.RestrictionParam(_Counted()),  # noqa: B008
    ) -> Iterator[tuple[str, int]]:
        start = tracker.current_restriction().start
        if tracker.try_claim(start):
            kept = [o for o in gc.get_objects() if isinstance(o, types.GeneratorType) and o.__name__ == "consolidate"]
            _alive.append(len(kept))
            tracker.defer_remainder()
            yield "key", start


_alive: list[int] = []


def _run(runner: FnApiRunner) -> list[int]:
    _alive.clear()
    options = PipelineOptions([])
    options.view_as(StandardOptions).streaming = True
    with beam.Pipeline(runner=runner, options=options) as pipeline:
        _ = pipeline | beam.Create([BUNDLES], reshuffle=False) | beam.ParDo(_OneABundle())
    return list(_alive)


def test_no_bundle_leaves_its_metrics_behind() -> None:
    """Beam's own runner keeps a generator a bundle; when it no longer does, `keep_nothing` can go."""
    beams = _run(FnApiRunner())
    assert len(beams) == BUNDLES
    assert beams[-1] - beams[0] > BUNDLES / 2
    ours = _run(LocalRunner())
    assert len(ours) == BUNDLES
    assert ours[-1] == ours[0]


class _Heard(beam.DoFn):
    KEYED = ReadModifyWriteStateSpec("keyed", BytesCoder())

    def process(self, element: tuple[str, int], keyed: Any = beam.DoFn.StateParam(KEYED)) -> None:  # noqa: ARG002, B008
        _heard.append((element[1], len(_alive)))


_heard: list[tuple[int, int]] = []


def test_what_a_step_with_a_hint_of_its_own_reads_goes_on_at_once() -> None:
    """As the reader has one, which never ends: in an environment of its own Beam would let all others wait for that."""
    _alive.clear()
    _heard.clear()
    options = PipelineOptions([])
    options.view_as(StandardOptions).streaming = True
    with beam.Pipeline(runner=LocalRunner(), options=options) as pipeline:
        reader = {"min_ram": "512MB"}
        made = pipeline | beam.Create([BUNDLES], reshuffle=False).with_resource_hints(**reader)
        read = made | beam.ParDo(_OneABundle()).with_resource_hints(**reader)
        _ = read | beam.ParDo(_Heard())
    assert _heard == [(bundle, bundle + 1) for bundle in range(BUNDLES)]


def test_beam_is_as_before_after_a_run() -> None:
    before = fn_runner.consolidate_monitoring_infos, statecache.get_deep_size
    _run(LocalRunner())
    assert (fn_runner.consolidate_monitoring_infos, statecache.get_deep_size) == before


@pytest.mark.parametrize("value", [b"", b"x" * 100_000, [b"y" * 1000] * 3, [bytes([i]) * 5000 for i in range(50)], []])
def test_state_is_weighed_as_beam_weighs_it(value: object) -> None:
    """Within a factor of four, and never less than Beam's own: the bound on the cache holds."""
    beams = statecache.get_deep_size(value)
    assert beams <= rough_size(value) <= 4 * beams
