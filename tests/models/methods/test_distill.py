"""Distillation: its loss against an independent formula, a run from teacher to prediction, and what is refused."""

import json
import math
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import eval as evaluation
import train
from common.display import Display
from common.errors import ConfigError, UserError
from engine.runs.checkpoint import load_checkpoint, save_checkpoint
from engine.runs.trained import OtherRuns
from engine.runtime.device import Placement
from engine.runtime.session import RunContext, StopSignal
from engine.runtime.world import World
from models import FusionModel, FusionOutput, build_model
from models.methods.distill import distance
from preprocess import pack
from tests import runs
from xnorm import load_run

data, one_thread, undrawn, shallow = runs.data, runs.one_thread, runs.undrawn, runs.shallow  # fixtures
SMALL = {"width": 0.05, "hidden_size": 8, "num_classes": 6}


THEIRS = """\
from configs.options import CommonOptions
from models.methods.late import LateFusion


class Late(LateFusion):
    options: CommonOptions

    def __init__(self, options):
        super().__init__(options.model_copy(update={"rgb_weight": 0.5}))
"""


class Offer:
    """Stands in for the trainer, with a teacher to lend."""

    def __init__(self, teacher: FusionModel) -> None:
        self.teacher, self.asked = teacher.eval().requires_grad_(False), []

    def load_run(self, path: Path) -> FusionModel:
        self.asked.append(path)
        return self.teacher


def taught(**options: object) -> tuple[FusionModel, FusionModel]:
    """A student and its teacher."""
    torch.manual_seed(0)
    student = build_model("distill", teacher="runs/teacher", **SMALL, **options)
    offer = Offer(build_model("late", **SMALL))
    student.start(offer)
    assert offer.asked == [Path("runs/teacher")]
    return student, offer.teacher


def clips() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randint(256, (2, c, 8, 32, 32), dtype=torch.uint8, generator=generator) for c in (3, 2))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_distance_is_the_sum_of_p_log_p_over_q_times_the_square_of_the_temperature(temperature: float) -> None:
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 5, 7)) * 3
    powers = [np.exp(logits / temperature) for logits in (teacher, student)]
    p, q = (power / power.sum(axis=1, keepdims=True) for power in powers)
    expected = temperature**2 * (p * np.log(p / q)).sum(axis=1).mean()
    found = distance(torch.tensor(student), torch.tensor(teacher), temperature)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_its_gradient_keeps_its_size_as_the_temperature_grows() -> None:
    """At high temperatures it is (z - v) / C for logits with a mean of 0 (equation 4 of the paper, times T^2)."""
    student, teacher = torch.tensor([[1.0, -1.0]], requires_grad=True), torch.tensor([[-2.0, 2.0]])
    distance(student, teacher, 1000.0).backward()
    torch.testing.assert_close(student.grad, torch.tensor([[3.0, -3.0]]) / 2, rtol=1e-3, atol=0)


def test_in_training_the_teacher_sees_both_streams_and_nothing_of_it_is_trained_or_saved() -> None:
    student, teacher = taught(weight=0.5, temperature=2.0)
    before = deepcopy(teacher.state_dict())
    output = student.train()(*clips())
    losses = student.losses(output, torch.tensor([0, 1]))
    expected = 0.5 * distance(output.logits, teacher(*clips()).logits, 2.0)
    torch.testing.assert_close(losses["distill"], expected)
    sum(losses.values()).backward()
    assert not teacher.training
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)
    plain = build_model("rgb", **SMALL)
    assert student.state_dict().keys() == plain.state_dict().keys() | {"teacher_checksum"}
    assert [p.shape for p in student.parameters()] == [p.shape for p in plain.parameters()]


def test_with_several_targets_the_distances_add_up() -> None:
    counts = {"targets": ["verb", "noun"], "num_classes": {"verb": 2, "noun": 3}}
    model = build_model("distill", width=0.05, temperature=1.0, **counts)
    student, teacher = torch.zeros(1, 5), torch.tensor([[math.log(3), 0, 0, 0, 0]])
    losses = model.losses(FusionOutput(student, {"teacher": teacher}), torch.tensor([[0, 0]]))
    assert losses["distill"].item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_scored_it_is_rgb_alone_and_without_a_teacher() -> None:
    student, _ = taught()
    rgb, flow = clips()
    output = student.eval()(rgb, None)
    assert "teacher" not in output.extra
    assert torch.equal(output.logits, student(rgb, flow).logits)
    assert (student.decoded(False), student.decoded(True)) == (("rgb",), ("rgb", "flow"))


def test_without_a_teacher_it_does_not_start_and_not_with_another_one() -> None:
    with pytest.raises(ConfigError, match=r"model\.teacher: found null, allowed: a run's folder"):
        build_model("distill", **SMALL).start(Offer(build_model("late", **SMALL)))
    student, teacher = taught()
    student.start(Offer(deepcopy(teacher)))  # resumed
    next(iter(teacher.buffers())).add_(1)
    with pytest.raises(UserError, match=r"runs/teacher: model\.teacher: not the weights that this run has been taught"):
        student.start(Offer(teacher))


@pytest.fixture(scope="module")
def teacher(data: list[str], one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of both streams, of one epoch."""
    folder = tmp_path_factory.mktemp("teacher")
    more = ["model.fusion=late", "train.epochs=1", "name=late", f"runs={folder}", "--quiet"]
    assert train.main(["-c", str(runs.CONFIG), *data, *runs.SMALL, *more]) == 0
    return folder / "late"


def command(data: list[str], folder: Path, teacher: Path, *more: str) -> list[str]:
    chosen = ["model.fusion=distill", f"model.teacher={teacher}", f"runs={folder}", "train.log_every=1", "--quiet"]
    return ["-c", str(runs.CONFIG), *data, *runs.SMALL, *chosen, *more]


@pytest.mark.slow
def test_a_run_is_resumed_bit_for_bit_and_scored_without_teacher_and_flow(
    data: list[str], teacher: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "teacher.pt"
    moved.write_bytes((teacher / "best.pt").read_bytes())
    assert train.main(command(data, tmp_path, teacher, "name=whole")) == 0
    assert train.main(command(data, tmp_path, teacher, "name=parts", "train.epochs=1")) == 0
    assert train.main(command(data, tmp_path, moved, "name=parts", "--resume")) == 0
    assert runs.difference(tmp_path / "parts", tmp_path / "whole") is None
    assert all("loss/distill" in line for line in runs.metrics(tmp_path / "whole") if line["kind"] == "train")
    best = tmp_path / "parts/best.pt"
    assert not any("flow" in name for name in load_checkpoint(best)["model"])
    moved.unlink()
    alone = [f"data.shards={tmp_path / 'rgb'}", "data.streams=[rgb]"]
    config = str(tmp_path / "parts/config.yaml")
    assert pack.main(["-c", config, *alone, "--quiet"]) == 0
    assert (
        evaluation.main(["-c", config, *alone, "--checkpoint", str(best), "-o", str(tmp_path / "test"), "--quiet"]) == 0
    )
    scores = [
        json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "test", tmp_path / "parts/test")
    ]
    assert scores[0]["top1"] == scores[1]["top1"]
    assert (tmp_path / "test/predictions.csv").read_bytes() == (tmp_path / "parts/test/predictions.csv").read_bytes()
    assert load_run(best).model.streams == ("rgb",)


def test_what_cannot_teach_is_refused_before_the_run_has_a_folder(
    data: list[str], teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(command(data, tmp_path / "runs", tmp_path / "none.pt")) == 1
    assert "none.pt: no such checkpoint" in capsys.readouterr().err
    assert train.main(command(data, tmp_path / "runs", teacher, "model.num_classes=7")) == 1
    assert "best.pt: has [6] classes, not [7]; a run learns from one that was" in capsys.readouterr().err
    assert train.main(["-c", str(runs.CONFIG), *data, *runs.SMALL, "model.fusion=distill"]) == 2
    assert "model.teacher: found null" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_teacher_whose_classes_have_other_names_or_another_order_is_refused(teacher: Path, tmp_path: Path) -> None:
    names, state = [f"class {n}" for n in range(6)], load_checkpoint(teacher / "best.pt")
    state["data"]["classes"] = {"label": names}
    save_checkpoint(tmp_path / "named.pt", state)
    session = RunContext(Placement(torch.device("cpu")), World(), Display(quiet=True), StopSignal())
    targets = build_model("distill", **SMALL).targets
    for others in (names[::-1], [*names[:5], "another"]):
        with pytest.raises(UserError, match=r"named\.pt: its classes of label are others; a run learns from one that"):
            OtherRuns(session, targets, {"label": others}).load_run(tmp_path / "named.pt")
    for same in (names, None):  # where there are no names, numbers say it
        assert OtherRuns(session, targets, {"label": same}).load_run(tmp_path / "named.pt").streams == ("rgb", "flow")


def test_a_method_from_outside_is_run_where_a_config_names_it_and_not_where_a_checkpoint_does(
    teacher: Path, tmp_path: Path
) -> None:
    (tmp_path / "theirs.py").write_text(THEIRS)
    fusion, state = f"{tmp_path / 'theirs.py'}:Late", load_checkpoint(teacher / "best.pt")
    state["config"]["model"] |= {"fusion": fusion}
    del state["config"]["model"]["rgb_weight"]
    save_checkpoint(tmp_path / "best.pt", state)
    with pytest.raises(UserError, match=r"best\.pt: its method is .*theirs\.py:Late, which would be run"):
        load_run(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": {"fusion": fusion}}))
    assert load_run(tmp_path).model.options.fusion == fusion
