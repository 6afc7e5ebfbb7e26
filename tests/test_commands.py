"""Every command: its help is complete, its examples are understood, --quiet leaves errors alone."""

import argparse
import ast
import importlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from common.cli import Help, path_type

ROOT = Path(__file__).parents[1]
FOLDERS = (".", "configs", "docs", "engine", "models", "pipeline", "preprocess", "xnorm")


def is_command(path: Path) -> bool:
    """Whether a file has a `if __name__ == "__main__"`."""
    text = path.read_text("utf-8")
    if "__main__" not in text:  # most files, and to parse one takes its time
        return False
    tests = [node.test for node in ast.parse(text).body if isinstance(node, ast.If)]
    return any(ast.unparse(test) == "__name__ == '__main__'" for test in tests)


def commands() -> Iterator[str]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).glob("*.py" if folder in (".", "docs") else "**/*.py")):
            if is_command(path):
                yield path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__main__")


COMMANDS = tuple(commands())


def module_of(name: str) -> ModuleType:
    """The module that `python -m name` runs."""
    module = importlib.import_module(name)
    return importlib.import_module(f"{name}.__main__") if hasattr(module, "__path__") else module


def parser_of(name: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """The parser that a command's --help prints."""
    found: list[argparse.ArgumentParser] = []
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "print_help", lambda parser, file=None: found.append(parser))
        with pytest.raises(SystemExit) as ended:
            module_of(name).main(["--help"])
    assert ended.value.code == 0
    return found[0]


def examples(parser: argparse.ArgumentParser) -> list[str]:
    """The lines at the help's very end, below `examples:`."""
    assert parser.epilog
    lines = parser.epilog.split("examples:\n")[1].splitlines()
    assert all(line.startswith("  ") for line in lines)
    return [line.strip() for line in lines]


def test_all_commands_are_found() -> None:
    assert {"train", "eval", "demo", "preprocess.pack", "pipeline.profile", "pipeline.inspect"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does_and_its_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = parser_of(name, monkeypatch)
    text = " ".join(parser.format_help().split())
    assert issubclass(parser.formatter_class, Help)
    for action in parser._actions:
        assert action.help, action.dest
        if not action.option_strings or isinstance(action, argparse._HelpAction):
            continue
        said = Help("")._expand_help(action)
        assert "default: None" not in said
        assert "(required)" in said if action.required else "default" in said, action.dest
        assert " ".join(said.split()) in text


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_examples_that_the_command_understands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = parser_of(name, monkeypatch)
    starts = (f"python {name.replace('.', '/')}.py", f"python -m {name}", "torchrun --nproc_per_node=8 " + f"{name}.py")
    lines = examples(parser)
    assert lines
    for line in lines:
        start = next(start for start in starts if line.startswith(start))
        parser.parse_intermixed_args(shlex.split(line.removeprefix(start)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_told_to_be_quiet(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--quiet" in parser_of(name, monkeypatch)._option_string_actions


@pytest.mark.parametrize("name", ["train", "preprocess.pack", "pipeline.profile", "pipeline.inspect"])
def test_two_configs_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        module_of(name).main(["-c", "configs/rgb.yaml", "-c", "configs/flow.yaml"])
    assert ended.value.code == 2
    assert "-c: found configs/rgb.yaml and configs/flow.yaml; allowed: one of them" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "option"), [("preprocess.synth", "-o"), ("train", "-c"), ("eval", "--checkpoint")])
def test_a_variable_that_is_not_set_is_no_path(name: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        module_of(name).main([option, "$NOT_SET_HERE/x"])
    assert ended.value.code == 2
    assert "found '$NOT_SET_HERE/x': the environment variable NOT_SET_HERE is not set" in capsys.readouterr().err


def test_home_is_written_out_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert path_type("~/out") == Path("/home/me/out")
