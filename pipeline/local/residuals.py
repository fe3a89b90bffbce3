"""Keeps the reader's deferred rest from growing Flink's state, which Beam's released runner lets it do.

A splittable DoFn that defers its rest leaves it in Flink's state under a name with a running number, and neither value
nor name is ever taken away (beam#27648): with the reader's polls that is some kilobytes each, in every checkpoint and
on the task manager's heap. In a copy of that one class, put first on the class path, the number is left out, so each
rest takes the place of the one before it. The job has one reader, so one rest is outstanding at any time; and numbers
begin anew after every restore, so that a name is used again is nothing new to the runner.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.local import LocalServiceError
from pipeline.local.changed_class import write_changed_class

HANDLER = (
    "org/apache/beam/runners/fnexecution/control/BundleCheckpointHandlers$StateAndTimerBundleCheckpointHandler.class"
)
# aload_0, getfield idGenerator, invokeinterface IdGenerator.getId, astore_2; indices are those of Beam 2.62.0.
_NEXT_NUMBER = bytes.fromhex("2a b40003 b900120100 4d")
# ldc ":", seven times nothing, astore_2.
_NO_NUMBER = bytes.fromhex("120f 00000000000000 4d")


def write_residuals_jar(jars: Sequence[Path], target: Path) -> Path:
    """Write a jar with the changed class to `target`, made from the one in `jars`."""
    return write_changed_class(jars, "beam-runners-java-fn-execution-", HANDLER, leave_the_number_out, target)


def leave_the_number_out(class_file: bytes) -> bytes:
    """Return the class with one name for what a key has deferred, where it had a new one each time."""
    if class_file.count(_NEXT_NUMBER) != 1:
        raise LocalServiceError(f"{HANDLER} is not the class that was expected: checkpoints would grow for ever")
    return class_file.replace(_NEXT_NUMBER, _NO_NUMBER)
