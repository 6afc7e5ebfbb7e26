"""A run starts from what fits of other runs' weights: by name, by shape, and by the names of classes."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from common.errors import UserError
from engine.initial_weights import describe, take_weights
from models import FusionModel, build_model
from models.checkpoint import collapse

SMALL = {"width": 0.05, "hidden_size": 8}


def model_of(fusion: str, seed: int, num_classes: int = 4, **options: object) -> FusionModel:
    torch.manual_seed(seed)
    model = build_model(fusion, num_classes=num_classes, **(SMALL | options))
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_()
    return model


def saved(path: Path, model: FusionModel, names: str | None = None) -> Path:
    data = {"classes": {"label": list(names) if names else None}, "source": None}
    torch.save({"model": model.state_dict(), "config": {}, "epoch": 3, "data": data}, path)
    return path


def split(names: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(
        targets={"label": None}, classes={"label": tuple(names) if names else None}, split_dir="train"
    )


def is_equal(one: FusionModel, other: FusionModel, prefix: str) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(
        torch.equal(*(state[name] for state in states))
        for name in states[0]
        if name.startswith(prefix) and not name.endswith("num_batches_tracked")
    )


def test_all_of_the_same_method_is_taken(tmp_path: Path) -> None:
    before, model = model_of("xnorm", 1), model_of("xnorm", 2)
    (record,) = take_weights(model, [saved(tmp_path / "a.pt", before, "abcd")], split("abcd"))  # type: ignore[arg-type]
    assert is_equal(before, model, "")
    assert (record["new"], record["unused"], record["other_classes"]) == ([], [], [])
    assert model.rgb_enc.Mixed_3b.b0.bn.num_batches_tracked == 100  # loaded statistics count as 1 / momentum batches


@pytest.mark.parametrize(("num_classes", "names"), [(5, None), (4, "abcx")])
def test_layers_of_other_classes_are_new(tmp_path: Path, num_classes: int, names: str | None) -> None:
    """Of another number, or as many of other names."""
    before, model = model_of("late", 1), model_of("late", 2, num_classes)
    fresh = model_of("late", 2, num_classes)
    (record,) = take_weights(model, [saved(tmp_path / "a.pt", before, "abcd")], split(names))  # type: ignore[arg-type]
    for stream in ("rgb", "flow"):
        assert is_equal(before, model, f"{stream}_enc")
        assert is_equal(before, model, f"{stream}_out.fc2")
        assert is_equal(fresh, model, f"{stream}_out.fc3")
    assert record["new"] == ["rgb_out.fc3", "flow_out.fc3"]
    assert record["taken"] == ["rgb_enc", "rgb_out.fc1", "rgb_out.fc2", "flow_enc", "flow_out.fc1", "flow_out.fc2"]
    assert record["other_classes"] == (["label"] if names else [])


def test_runs_of_single_streams_become_the_streams_of_a_fusion(tmp_path: Path) -> None:
    rgb, flow, model = model_of("rgb", 1), model_of("flow", 2), model_of("xnorm", 3)
    files = [saved(tmp_path / "rgb.pt", rgb), saved(tmp_path / "flow.pt", flow)]
    first, second = take_weights(model, files, split("abcd"))  # type: ignore[arg-type]
    assert is_equal(rgb, model, "rgb_")
    assert is_equal(flow, model, "flow_")
    assert (first["taken"], second["taken"]) == (["rgb_enc", "rgb_out"], ["flow_enc", "flow_out"])
    exchanges = [f"{way}_l{n}" for n in (1, 2, 3) for way in ("rgb2flow", "flow2rgb")]
    assert sorted(second["new"]) == sorted(["rgb_enc", "rgb_out", *exchanges])


def test_statistics_that_are_not_taken_count_as_none(tmp_path: Path) -> None:
    model = model_of("late", 3)
    take_weights(model, [saved(tmp_path / "rgb.pt", model_of("rgb", 1))], split())  # type: ignore[arg-type]
    counts = [trunk.Mixed_3b.b0.bn.num_batches_tracked for trunk in (model.rgb_enc, model.flow_enc)]
    assert counts == [100, 0]


def test_what_a_method_found_out_in_its_run_is_found_out_anew(tmp_path: Path) -> None:
    before, model = model_of("gblend", 1), model_of("gblend", 2)
    before.head_weights.fill_(0.2)
    before.estimated_before.fill_(7)
    (record,) = take_weights(model, [saved(tmp_path / "a.pt", before)], split())  # type: ignore[arg-type]
    assert is_equal(before, model, "out")
    assert (model.head_weights.tolist(), int(model.estimated_before)) == ([1, 1, 1], -1)
    assert record["new"] == ["head_weights", "estimated_before"]


def test_a_report_names_modules_and_what_is_not_used(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.pt", model_of("rgb", 1), "abcd")
    (record,) = take_weights(model_of("early", 2), [file], split("wxyz"))  # type: ignore[arg-type]
    assert describe(record) == (
        f"{file}: taken: rgb_enc; new: flow_enc, out; unused: rgb_out; its classes of label are others"
    )


def test_a_file_of_which_nothing_fits_is_refused_with_both_sides(tmp_path: Path) -> None:
    torch.save(model_of("rgb", 1).rgb_enc.state_dict(), tmp_path / "trunk.pt")
    found = (
        r"trunk.pt: train.init_from: none of its weights fits this model; it has Conv3d_1a_7x7, .*, the model rgb_enc"
    )
    with pytest.raises(UserError, match=found):
        take_weights(model_of("rgb", 2), [tmp_path / "trunk.pt"], split())  # type: ignore[arg-type]


def test_names_collapse_to_what_stands_for_them_alone() -> None:
    known = ["a.b.w", "a.b.v", "a.c.w", "d.w", "d.v", "e"]
    assert collapse(["a.b.w", "a.b.v", "d.w", "d.v", "e"], known) == ["a.b", "d", "e"]
    assert collapse(["a.b.w", "a.c.w"], known) == ["a.b.w", "a.c"]
    assert collapse([], known) == []
