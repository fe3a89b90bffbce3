"""What the library may import: it is used in workers, on devices and in notebooks."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

MATCHER = Path(__file__).parent.parent / "matcher"
ALLOWED = {"llvmlite", "matcher", "numba", "numpy", "scipy"}
# No clock, no files, no network, no randomness but what is handed in.
UNWANTED = {"asyncio", "datetime", "os", "pathlib", "random", "requests", "socket", "subprocess", "threading", "time"}


def imported(module: Path) -> set[str]:
    """Top-level names of everything that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            names.add((node.module or "").split(".")[0])
    return names


def test_import_matcher_is_light() -> None:
    """Neither the compiler nor scipy, nor even numpy: who only wants the version waits for nothing."""
    heavy = "{'numba', 'scipy', 'llvmlite', 'numpy', 'apache_beam', 'kafka'}"
    code = f"import sys, matcher; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=MATCHER.parent)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("module", sorted(MATCHER.rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_in_the_library_imports_beam_kafka_or_the_pipeline(module: Path) -> None:
    others = imported(module) - ALLOWED
    assert others <= set(sys.stdlib_module_names)
    assert not others & UNWANTED


def test_the_whole_library_works_without_beam_and_kafka() -> None:
    """They are not even there in a process that has imported every module."""
    modules = ", ".join(f"matcher.{path.stem}" for path in sorted(MATCHER.glob("[a-z]*.py")))
    code = f"import sys, {modules}; print(sorted({{'apache_beam', 'kafka', 'pipeline', 'grpc'}} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=MATCHER.parent)
    assert run.stdout.strip() == "[]"
