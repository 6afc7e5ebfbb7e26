"""The structure of the tree, where import-linter and ruff cannot say it: DALI's place, docstrings, unsafe readers."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("common", "configs", "engine", "models", "pipeline", "preprocess", "xnorm")
DALI = {"pipeline/decoders/dali.py"}
SOURCES = [*sorted(ROOT.glob("*.py")), *(path for name in PACKAGES for path in sorted(ROOT.glob(f"{name}/**/*.py")))]


@cache
def trees() -> dict[str, ast.Module]:
    """Every source, parsed."""
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in SOURCES}


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield f"{node.module}.{node.names[0].name}"


def test_imports_run_one_way() -> None:
    """The layers are in setup.cfg; commands at the top level may import any of them, and none imports a command."""
    linted = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout
    commands = {path.stem for path in ROOT.glob("*.py")}
    inside = {name: tree for name, tree in trees().items() if "/" in name}
    assert {
        name for name, tree in inside.items() if commands & {full.split(".")[0] for full in imported(tree)}
    } == set()


def test_dali_is_imported_in_one_file_alone() -> None:
    assert {name for name, tree in trees().items() if any(n.startswith("nvidia") for n in imported(tree))} == DALI


def test_the_sampler_needs_neither_torch_nor_dali() -> None:
    code = "import sys, pipeline.reader, pipeline.sampler; sys.exit(bool({'torch', 'nvidia.dali'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("forbidden", ["yaml.load(", "weights_only=False", "allow_pickle=True"])
def test_nothing_is_read_that_could_run_code(forbidden: str) -> None:
    assert [path for path in SOURCES if forbidden in path.read_text("utf-8")] == []


def test_the_first_line_of_every_file_says_its_one_job() -> None:
    docs = {name: ast.get_docstring(tree) or "" for name, tree in trees().items()}
    assert {name for name, doc in docs.items() if not 20 < len(doc.split("\n")[0]) < 118} == set()


def public_functions(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef, str]]:
    """Each public function with its docstring, and a method's with that of its class."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node, ast.get_docstring(node) or ""
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            whole = ast.get_docstring(node) or ""
            methods = (method for method in node.body if isinstance(method, ast.FunctionDef))
            yield from ((method, whole + (ast.get_docstring(method) or "")) for method in methods)


def named(node: ast.expr | None) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} if node is not None else set()


def test_what_a_public_function_raises_stands_in_its_docstring() -> None:
    silent = []
    for name, tree in trees().items():
        for function, doc in public_functions(tree):
            raised = [node.exc for node in ast.walk(function) if isinstance(node, ast.Raise)]
            errors = {call.func.id for call in raised if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)}
            handlers = (node for node in ast.walk(function) if isinstance(node, ast.ExceptHandler))
            caught = set().union(*(named(node.type) for node in handlers))
            errors -= caught | {"NotImplementedError", "AssertionError"}
            if not function.name.startswith("_") and errors and "Error" not in doc:
                silent.append(f"{name}: {function.name}: {', '.join(sorted(errors))}")
    assert silent == []
