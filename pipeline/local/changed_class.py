"""A jar with one class of Beam's changed, which goes first on a class path."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path


def write_changed_class(
    jars: Sequence[Path], prefix: str, name: str, change: Callable[[bytes], bytes], target: Path
) -> Path:
    """Write a jar to `target` with the class `name` of the jar that begins with `prefix`, as `change` makes it."""
    source = next(jar for jar in jars if jar.name.startswith(prefix))
    with zipfile.ZipFile(source) as archive:
        changed = change(archive.read(name))
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(name, changed)
    return target
