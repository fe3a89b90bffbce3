"""Write `jars.csv` anew from the Maven coordinates in `jars.py`: `python -m pipeline.local.lock`, after changing one.

Resolving is jgo's, in pure Python; for Flink it reads 662 POMs and takes a minute or two, so it is done once, here.
"""

import csv
import hashlib
import tempfile
from pathlib import Path

from pipeline.local.jars import JAR_SETS, LOCK_NAME, Jar, JarSet


def resolve(jar_set: JarSet, repository_cache: Path) -> list[Jar]:
    """Return all jars that `jar_set` needs at run time, its own first; they are downloaded into `repository_cache`."""
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=repository_cache, timeout=60)
    wanted = [context.create_dependency(coordinates) for coordinates in jar_set.coordinates]
    for dependency in wanted:
        dependency.scope = "compile"  # without a scope its own dependencies are not followed
    own, others = context.resolver.resolve(wanted)
    jars = []
    for dependency in (*own, *(other for other in others if other.scope in {"compile", "runtime"})):
        file = dependency.artifact.resolve()
        content = file.read_bytes()
        path = file.relative_to(repository_cache).as_posix()
        jars.append(Jar(path, len(content), hashlib.sha256(content).hexdigest()))
    names = [jar.name for jar in jars]
    assert len(set(names)) == len(names), "the cache is flat: two jars of one name would be one"
    return jars


def main() -> None:
    """Resolve every jar set and write the lock file beside this module."""
    with tempfile.TemporaryDirectory() as scratch:
        closures = [(jar_set, resolve(jar_set, Path(scratch))) for jar_set in JAR_SETS]
    with Path(__file__).with_name(LOCK_NAME).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("set", "path", "size_bytes", "sha256"))
        for jar_set, jars in closures:
            writer.writerows((jar_set.key, jar.path, jar.size_bytes, jar.sha256) for jar in jars)
            print(f"{jar_set.key}: {len(jars)} jars, {sum(jar.size_bytes for jar in jars) / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
