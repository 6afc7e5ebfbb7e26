"""Every command that a document shows does what it says: it is run on tiny clips, or checked where it says why not."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.markdown import NEEDS, ROOT, Command, block_commands, documents, help_commands, inline_commands
from tests.docs.project import check, entry_points, make_project, run, steps
from tests.runs import undrawn

__all__ = ["undrawn"]  # a fixture

SHOWN = [command for path in documents() for command in block_commands(path)]
MENTIONED = [
    command for path in (*documents(), *sorted(ROOT.glob("configs/*.yaml"))) for command in inline_commands(path)
]


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("project")
    make_project(folder, patch)
    return folder


@pytest.mark.slow
def test_every_command_in_a_block_runs_in_the_order_of_the_documents(
    patch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    failed = []
    for command in SHOWN:
        if command.needs is None:
            codes = [run(words, patch) for words in steps(command)]
            printed = capfd.readouterr()
            if any(codes):
                failed.append(f"{command}\n  exit codes {codes}\n{printed.err[-2000:]}")
    assert failed == []


@pytest.mark.parametrize("command", [command for command in SHOWN if command.needs], ids=str)
def test_a_command_that_is_not_run_says_why_and_would_be_accepted(command: Command, patch: pytest.MonkeyPatch) -> None:
    assert command.needs in NEEDS
    assert [check(words, patch) for words in steps(command)] == [0] * len(steps(command))


@pytest.mark.parametrize("command", MENTIONED, ids=str)
def test_a_command_in_the_text_would_be_accepted(command: Command, patch: pytest.MonkeyPatch) -> None:
    assert [check(words, patch) for words in steps(command)] == [0] * len(steps(command))


@pytest.mark.parametrize("name", entry_points())
def test_help_ends_in_examples_that_would_be_accepted(
    name: str, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(entry_points()[name])
    with pytest.raises(SystemExit) as exited:
        module.main(["--help"])
    assert exited.value.code == 0
    examples = list(help_commands(f"{name} --help", capsys.readouterr().out))
    assert examples
    for example in examples:
        assert [check(words, patch) for words in steps(example)] == [0], str(example)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("python pack.py -c configs/xnorm.yaml", "no such file: pack.py"),
        ("pyhton train.py", "unknown program pyhton"),
        ("torchrun --processes=8 train.py -c configs/xnorm.yaml", "2"),
    ],
)
def test_a_command_that_does_not_exist_is_found(text: str, match: str, patch: pytest.MonkeyPatch) -> None:
    with pytest.raises((AssertionError, SystemExit), match=match):
        check(Command("here:1", text, None).words, patch)


@pytest.mark.parametrize(
    "text",
    [
        "python train.py -c configs/nowhere.yaml",
        "python train.py -c configs/xnorm.yaml train.lrr=1",
        "python train.py -c configs/xnorm.yaml --resum-e",
        "python -m pipeline.profile -c configs/xnorm.yaml --sweeep",
        "python eval.py -c configs/misa.yaml --checkpoint a.pt model.exchange_order=parallel",
        "torchrun --nproc_per_node=8 train.py -c configs/xnorm.yaml train.epochs=-1",
        "python demo.py --methods all --set train.lrr=1",
    ],
)
def test_a_wrong_option_key_or_value_is_found_without_running(text: str, patch: pytest.MonkeyPatch) -> None:
    assert check(Command("here:1", text, None).words, patch) != 0
