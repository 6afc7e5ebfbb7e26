"""The Python examples of docs/predict.md run as they stand."""

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT
from tests.own import Own

EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/predict.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_there_are_two_examples() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize(("example", "printed"), list(zip(EXAMPLES, ["0.8 to 1.6 s: ", "flow (3, 1, "], strict=True)))
def test_an_example_runs_and_prints_what_its_comments_say(
    example: str,
    printed: str,
    own: Own,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "runs").symlink_to(own.run.parent)
    shutil.copy(own.video, tmp_path / "video.mp4")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/predict.md", "exec"), {})
    assert printed in capsys.readouterr().out
