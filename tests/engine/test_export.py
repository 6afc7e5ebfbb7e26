"""Exported runs: read back they predict equally, as programs they give the model's logits; the card's numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from torch import nn

import eval as evaluation
from common.display import Display
from configs import UserError, load_config
from engine import export
from engine.runs.checkpoint import load_checkpoint, plain_config, save_checkpoint
from engine.runs.model_card import Licences
from models import build_model
from models.trunks.i3d import I3D
from tests.own import Own
from tests.runs import CONFIG, SHALLOW, SMALL
from xnorm import load_run

TINY = """
from torch import nn
from models import FusionModel, FusionOutput

class Tiny(FusionModel):
    def __init__(self, options):
        super().__init__(options)
        self.rgb, self.flow = nn.Conv3d(3, options.num_classes, 3), nn.Conv3d(2, options.num_classes, 3)

    def predict(self, rgb, flow):
        return FusionOutput((self.rgb(rgb) * self.flow(flow)).mean(dim=(2, 3, 4)))

class Branching(Tiny):
    def predict(self, rgb, flow):
        return super().predict(rgb, flow) if rgb.mean() > 0 else super().predict(-rgb, flow)
"""


def checkpoint_of(folder: Path, fusion: str) -> Path:
    """A checkpoint of random weights, with statistics of noise."""
    config = load_config(CONFIG, [*SMALL, f"model.fusion={fusion}"])
    torch.manual_seed(0)
    model = build_model(**config.model.model_dump())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            assert module.running_mean is not None
            module.running_mean.normal_()
    data = {"classes": {"label": ["pour", "stir"]}, "source": None}
    state = {"model": model.state_dict(), "config": plain_config(config), "epoch": 3, "top1": 0.625, "data": data}
    save_checkpoint(folder / "best.pt", state)
    (folder / "config.yaml").write_text(yaml.safe_dump(plain_config(config)))
    return folder / "best.pt"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "tiny.py").write_text(TINY)
    return checkpoint_of(tmp_path, f"{tmp_path}/tiny.py:Tiny")


def logits(path: Path, **sizes: int) -> tuple[dict[str, Any], torch.Tensor]:
    """Random clips, and what the checkpoint's model says of them."""
    state = load_checkpoint(path)
    model = build_model(**state["config"]["model"]).eval()
    model.load_state_dict(state["model"])
    torch.manual_seed(sizes["batch"])
    clips = {
        name: torch.randint(0, 256, (sizes["batch"], channels, 8, 32, 32), dtype=torch.uint8)
        for name, channels in (("rgb", 3), ("flow", 2))
    }
    with torch.inference_mode():
        return clips, model(**clips).logits


def test_a_run_read_back_predicts_and_scores_equally(own: Own, tmp_path: Path, capsys) -> None:
    assert export.main([str(own.run), "-o", str(tmp_path / "out"), "--formats", "--license", "mit"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.yaml",
        "model.safetensors",
    ]
    found, expected = load_run(tmp_path / "out"), load_run(own.run)
    assert torch.equal(
        found.predict(own.video, segments=own.table).logits, expected.predict(own.video, segments=own.table).logits
    )
    assert (found.classes, found.made) == (expected.classes, expected.made)
    for run in (tmp_path / "out", own.run):
        assert evaluation.main([str(run), "--split", "val", "-o", str(tmp_path / run.name), "--quiet"]) == 0
    assert (tmp_path / "out/predictions.csv").read_bytes() == (tmp_path / own.run.name / "predictions.csv").read_bytes()
    with safe_open(tmp_path / "out/model.safetensors", "pt") as file:
        about = {key: json.loads(text) for key, text in file.metadata().items() if key != "format"}
    assert about["classes"] == {"label": ["pour", "stir"]}
    assert about["preprocessing"]["made"]["bound"] == 8.0
    assert about["preprocessing"]["crop_size"] == about["config"]["clip"]["crop_size"] == 32
    card = (tmp_path / "out/README.md").read_text()
    summary = json.loads((own.run / "summary.json").read_text())
    for text in (
        "license: mit\n",
        f"| parameters | {summary['parameters']['total']:,} |",
        f"top-1 {summary['val']['top1']:.1%}",
        f"mean-class {summary['val']['mean_class']:.1%}",
        "- label: pour, stir",
        "bound 8.0",
        "| the training data | not stated |",
    ):
        assert text in card


def test_a_byte_that_changed_is_noticed(tiny: Path, tmp_path: Path) -> None:
    assert export.main([str(tiny), "-o", str(tmp_path / "out"), "--formats", "--quiet"]) == 0
    path = tmp_path / "out/model.safetensors"
    sound = path.read_bytes()
    for position in (0, 20, len(sound) - 5):
        path.write_bytes(sound[:position] + bytes([sound[position] ^ 1]) + sound[position + 1 :])
        with pytest.raises(UserError, match="damaged or not a checkpoint"):
            load_checkpoint(path)


@pytest.mark.slow
def test_a_program_and_onnx_take_any_number_of_clips(tiny: Path, tmp_path: Path, capsys) -> None:
    runtime = pytest.importorskip("onnxruntime")
    assert export.main([str(tiny.parent), "-o", str(tmp_path / "out")]) == 0
    assert "model.onnx: logits within " in capsys.readouterr().out
    program = torch.export.load(tmp_path / "out/model.pt2").module()
    session = runtime.InferenceSession(tmp_path / "out/model.onnx")
    assert [(one.name, one.shape, one.type) for one in session.get_inputs()] == [
        ("rgb", ["batch", 3, 8, 32, 32], "tensor(uint8)"),
        ("flow", ["batch", 2, 8, 32, 32], "tensor(uint8)"),
    ]
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == {"label": ["pour", "stir"]}
    for batch in (1, 5):
        clips, expected = logits(tiny, batch=batch)
        torch.testing.assert_close(program(*clips.values()), expected, atol=1e-5, rtol=0)
        (found,) = session.run(["logits"], {name: clip.numpy() for name, clip in clips.items()})
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-5, rtol=0)
    assert "| val, which chose the epoch |  | top-1 62.5% |" in (tmp_path / "out/README.md").read_text()


def test_a_method_that_torch_cannot_export_is_one_message_and_no_file(tiny: Path, tmp_path: Path, capsys) -> None:
    branching = checkpoint_of(tmp_path, f"{tmp_path}/tiny.py:Branching")
    assert export.main([str(branching), "-o", str(tmp_path / "out"), "--formats", "program"]) == 1
    assert "tiny.py:Branching: torch cannot export it as program (" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_method_that_only_the_checkpoint_names_is_not_run(tiny: Path, tmp_path: Path, capsys) -> None:
    (tiny.parent / "config.yaml").unlink()
    assert export.main([str(tiny), "-o", str(tmp_path / "out"), "--formats"]) == 1
    assert "tiny.py:Tiny, which would be run; that is done only where the config.yaml" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_numbers_that_are_not_the_model_s_are_refused() -> None:
    with pytest.raises(UserError, match=r"run: its logits are 1\.0e-02 from the model's, allowed: 1e-05"):
        export._difference(torch.tensor([[2.02]]), torch.tensor([[2.0]]), "run")
    with pytest.raises(UserError, match="run: its logits are nan"):
        export._difference(torch.tensor([[torch.nan]]), torch.tensor([[2.0]]), "run")


def test_onnx_without_its_packages_is_refused_before_the_work(tiny: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    assert export.main([str(tiny)]) == 2
    assert "onnx, onnxscript, onnxruntime not installed; pip install '.[export]'" in capsys.readouterr().err
    assert not (tiny.parent / "export").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("fusion", "stages"), [("rgb", I3D.stages), ("xnorm", SHALLOW), ("misa", SHALLOW)])
def test_methods_are_exported(
    fusion: str, stages: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(I3D, "stages", stages)
    path = checkpoint_of(tmp_path, fusion)
    found = export.export(path, tmp_path / "out", list(export.FORMATS), Licences(), Display(quiet=True))
    assert max(found.values()) <= 1e-5
