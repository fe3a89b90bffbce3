"""Keeps Beam's job server from sending its class path along with every job, which it has no option for.

For a remote Flink it sends 162 jars, 158 MB, which the job manager hands to every task manager: half a minute for each
job, and here the task managers have the same jars on their class paths. The job server leaves out whatever has
"gradle/wrapper" in its path; in a copy of that one class, put first on the class path, the text is empty, and every
path has that in it.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

from pipeline.local import LocalServiceError
from pipeline.local.changed_class import write_changed_class

RESOURCES = "org/apache/beam/sdk/util/construction/resources/PipelineResources.class"
_UTF8 = 1  # the tag of a text among a class file's constants, which its length follows
_LEFT_OUT = b"gradle/wrapper"


def write_staging_jar(jars: Sequence[Path], target: Path) -> Path:
    """Write a jar with the changed class to `target`, made from the one in `jars`."""
    return write_changed_class(jars, "beam-sdks-java-core-", RESOURCES, leave_everything_out, target)


def leave_everything_out(class_file: bytes) -> bytes:
    """Return the class with the text that tells what is left out replaced by an empty one."""
    text = struct.pack(">BH", _UTF8, len(_LEFT_OUT)) + _LEFT_OUT
    if class_file.count(text) != 1:
        raise LocalServiceError(f"{RESOURCES} is not the class that was expected: jobs would be sent with all its jars")
    return class_file.replace(text, struct.pack(">BH", _UTF8, 0))
