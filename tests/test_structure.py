"""The house keeps its shape: which package imports which, and where DALI is allowed."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Who may import whom, beside itself.
ALLOWED = {
    "configs": set(),
    "models": {"configs"},
    "pipeline": {"configs"},
    "preprocess": {"configs", "pipeline.format", "pipeline.decoders.jpeg_stream"},
    "engine": {"configs", "models", "pipeline"},
    "eval": {"configs", "models", "pipeline", "engine", "preprocess.packing.stale"},
    "train": {"configs", "engine", "models", "pipeline", "preprocess.packing.stale"},
    "xnorm": {"configs", "engine", "models", "pipeline", "preprocess"},
    "predict": {"configs", "xnorm"},
    "demo": {"configs", "engine", "preprocess"},
}
OURS = set(ALLOWED)
DALI = {"pipeline/decoders/dali.py"}


def sources() -> list[Path]:
    return [path for name in sorted(OURS) for path in (*ROOT.glob(f"{name}.py"), *sorted(ROOT.glob(f"{name}/**/*.py")))]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def may_import(package: str, name: str) -> bool:
    head = name.split(".")[0]
    return head == package or any(name == other or name.startswith(f"{other}.") for other in ALLOWED[package])


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0].removesuffix(".py")
    wrong = {name for name in imported(path) if name.split(".")[0] in OURS and not may_import(package, name)}
    assert wrong == set()


def test_dali_is_imported_in_one_file_alone() -> None:
    found = {str(path.relative_to(ROOT)) for path in sources() if any(n.startswith("nvidia") for n in imported(path))}
    assert found == DALI


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pickle_and_no_unsafe_yaml(path: Path) -> None:
    text = path.read_text("utf-8")
    assert "pickle.load" not in text
    assert "yaml.load(" not in text
    assert "weights_only=False" not in text
    assert "allow_pickle=True" not in text


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_first_line_says_the_one_job(path: Path) -> None:
    doc = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert doc
    assert len(doc.splitlines()[0]) > 20


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


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_public_function_raises_stands_in_its_docstring(path: Path) -> None:
    silent = []
    for function, doc in public_functions(ast.parse(path.read_text("utf-8"))):
        raised = [node.exc for node in ast.walk(function) if isinstance(node, ast.Raise)]
        errors = {call.func.id for call in raised if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)}
        caught = set().union(*(named(node.type) for node in ast.walk(function) if isinstance(node, ast.ExceptHandler)))
        errors -= caught | {"NotImplementedError", "AssertionError"}
        if not function.name.startswith("_") and errors and "Error" not in doc:
            silent.append(f"{function.name}: {', '.join(sorted(errors))}")
    assert silent == []
