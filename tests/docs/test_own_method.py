"""The methods of docs/own-method.md train, resume, are scored and compared, and are held to their options."""

import json
import re
import sys
from pathlib import Path

import pytest

import eval as evaluation
import train
from configs import ConfigError, load_config
from models import build_model
from tests import runs
from tests.docs.markdown import ROOT

data, one_thread, undrawn, shallow = runs.data, runs.one_thread, runs.undrawn, runs.shallow  # fixtures
TEXT = (ROOT / "docs/own-method.md").read_text("utf-8")
(CODE, *MORE), (YAML,) = (
    re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S) for language in ("python", "yaml")
)
METHODS = ("Gated", "Noisy", "Aligned")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the template, what is added to it, and its config."""
    (tmp_path / "my_fusion.py").write_text("\n\n".join([CODE, *MORE]))
    (tmp_path / "my.yaml").write_text(YAML)
    return tmp_path


def command(folder: Path, data: list[str], *more: str) -> list[str]:
    small = [override for override in runs.SMALL if not override.startswith("train.epochs")]
    return ["-c", str(folder / "my.yaml"), *data, *small, f"runs={folder / 'runs'}", "--quiet", *more]


def test_it_has_about_thirty_lines() -> None:
    assert 25 <= len(CODE.splitlines()) <= 35
    assert all(f"class {method}(" in "".join([CODE, *MORE]) for method in METHODS)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_it_trains_resumes_is_scored_and_compared(
    method: str, folder: Path, data: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "my.yaml").write_text(YAML.replace("Gated", method))
    for name, epochs in (("whole", 2), ("parts", 1)):
        assert train.main(command(folder, data, f"name={name}", f"train.epochs={epochs}")) == 0
    monkeypatch.chdir("/")  # the run knows where the file stands
    run = folder / "runs/parts"
    assert train.main(["-c", str(run / "config.yaml"), "train.epochs=2", "--resume", "--quiet"]) == 0
    assert runs.difference(run, folder / "runs/whole") is None
    scoring = ["--checkpoint", str(run / "best.pt"), "--split", "val", "-o", str(folder / "out"), "--quiet"]
    assert evaluation.main(["-c", str(run / "config.yaml"), *scoring]) == 0
    assert json.loads((folder / "out/metrics.json").read_text())["clips"] == 6
    assert evaluation.main(["--compare", str(run), "-o", str(folder)]) == 0
    assert f"my_fusion.py:{method}" in (folder / "comparison.md").read_text()


def test_its_path_counts_from_the_config_and_from_where_one_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absolute = f"{folder / 'my_fusion.py'}:Gated"
    assert load_config(folder / "my.yaml").model.fusion == absolute
    monkeypatch.chdir(folder)
    config = load_config(runs.CONFIG, ["model.fusion=my_fusion.py:Gated"])
    assert (config.model.fusion, config.model.sharpness) == (absolute, 1.0)
    assert type(build_model(**config.model.model_dump() | {"width": 0.05})).__name__ == "Gated"


def test_a_class_of_a_package_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "their_package").mkdir()
    (folder / "their_package/fusion.py").write_text(CODE)
    monkeypatch.syspath_prepend(folder)
    fusion = "their_package.fusion:Gated"
    assert load_config(runs.CONFIG, [f"model.fusion={fusion}"]).model.fusion == fusion
    assert type(build_model(fusion, width=0.05)).__module__ == "their_package.fusion"
    del sys.modules["their_package.fusion"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.sharpnes=2", r"model\.sharpnes: unknown key; did you mean 'sharpness'\?"),
        ("model.sharpness=-1", r"model\.sharpness: found -1: input should be greater than 0"),
        ("model.rank=3", r"model\.rank: has no effect when fusion is '.*my_fusion.py:Gated' \(it belongs to lmf\)"),
        ("model.fusion=nowhere.py:Gated", r"model\.fusion: /.*nowhere\.py: no such file"),
        ("model.fusion=no.such:Gated", r"model\.fusion: cannot import no\.such \(No module named 'no'\)"),
        (
            "model.fusion=models.methods.late:Late",
            r"model\.fusion: models\.methods\.late has no class 'Late'; found there: .*Late",
        ),
        (
            "model.fusion=torch.nn:Linear",
            r"model\.fusion: torch\.nn:Linear does not say which options it has",
        ),
        ("model.fusion=$NO_SUCH/my.py:Gated", r"model\.fusion: .*the environment variable NO_SUCH is not set"),
    ],
)
def test_what_does_not_fit_is_one_message(override: str, message: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(folder / "my.yaml", [override])
