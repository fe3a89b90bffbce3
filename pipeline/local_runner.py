"""Beam's local runner, fit for a stream: memory that does not grow, and state cells that are cheap to touch.

For each of these a function of Beam is replaced for the length of a run; tests/test_local_runner.py tells when Beam no
longer needs them. docs/performance.md has the figures.
"""

import sys
from collections.abc import Iterable
from typing import Any
from unittest import mock

from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.worker import statecache


class LocalRunner(fn_runner.FnApiRunner):
    """FnApiRunner, all in this process."""

    def run_via_runner_api(self, pipeline_proto: Any, options: Any) -> Any:
        """Run as FnApiRunner does, with all steps in one environment: hints that ask for another are forgotten.

        Only steps of one environment are fused, and what goes from one fused stage to the next waits until the first
        has ended. A reader never ends.
        """
        for environment in pipeline_proto.components.environments.values():
            environment.resource_hints.clear()
        return super().run_via_runner_api(pipeline_proto, options)

    def run_stages(self, stage_context: Any, stages: Any) -> Any:
        """Run as FnApiRunner does, with two of its helpers replaced."""
        with (
            mock.patch.object(fn_runner, "consolidate_monitoring_infos", keep_nothing),
            mock.patch.object(statecache, "get_deep_size", rough_size),
        ):
            return super().run_stages(stage_context, stages)


def keep_nothing(_infos: Iterable[Any]) -> tuple[()]:
    """Give no metrics of Beam's own: ours go to Prometheus.

    Beam's function is a generator that nobody reads before the job ends. Every bundle wraps the one before in another,
    so the metrics of all bundles are kept.
    """
    return ()


def rough_size(*objects: Any) -> int:
    """Bytes held by values of state, which are bytes or lists of bytes, for the state cache's bound.

    Beam's function walks all loaded modules first, 3 ms each time that a bundle touches a state cell.
    """
    size = 0
    for value in objects:
        size += sys.getsizeof(value)
        if isinstance(value, list | tuple):
            size += rough_size(*value)
        elif isinstance(value, statecache.CacheAware):
            size += rough_size(*value.get_referents_for_cache())
    return size
