"""What ranks must share is compared, and the difference is named with its ranks."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from configs import ConfigError, UserError
from engine.runtime.agreement import require_agreement, shared_facts
from engine.runtime.world import World
from pipeline.format.index import INDEX_NAME
from preprocess import pack
from tests import runs
from tests.runs import MakeArguments, MakeConfig
from tests.torchrun import OTHER_RANK, forked

data, arguments, config, one_thread = runs.data, runs.arguments, runs.config, runs.one_thread  # fixtures

Exchange = Callable[..., World]


@pytest.fixture
def world_of(monkeypatch: pytest.MonkeyPatch) -> Exchange:
    """A world whose other ranks found these facts; the first found its own."""

    def make(*others: dict[str, object]) -> World:
        texts = [json.dumps(facts) for facts in others]
        monkeypatch.setattr(World, "gather_texts", lambda _, text: [text, *texts])
        return World(0, 1 + len(others))

    return make


def test_the_difference_is_named_with_rank_and_values(world_of: Exchange) -> None:
    world = world_of({"train.lr": 0.1, "seed": 0}, {"train.lr": 0.2, "seed": 0, "model.online": 3})
    message = r"train\.lr: rank 2 has 0\.2, rank 0 has 0\.1; model\.online: rank 2 has 3, rank 0 has None; give every"
    with pytest.raises(ConfigError, match=message):
        require_agreement(world, lambda: {"train.lr": 0.1, "seed": 0})
    require_agreement(world_of({"seed": 0}), lambda: {"seed": 0})


def test_what_fails_on_one_rank_fails_on_all_and_on_all_alike_as_it_is(world_of: Exchange) -> None:
    def fail() -> dict[str, object]:
        raise UserError("val: not packed")

    with pytest.raises(ConfigError, match=r"rank 1: val: not packed; give"):
        require_agreement(world_of({"": "val: not packed"}), lambda: {"seed": 0})
    with pytest.raises(UserError, match=r"^val: not packed$"):
        require_agreement(world_of({"": "val: not packed"}), fail)

    def lose_the_mount() -> dict[str, object]:
        raise OSError(5, "Input/output error", "/mnt/shards/val/index.json")

    with pytest.raises(ConfigError, match=r"rank 0: /mnt/shards/val/index\.json: Input/output error; give"):
        require_agreement(world_of({"seed": 0}), lose_the_mount)


def test_what_is_shared_is_all_but_where_things_lie(config: MakeConfig, tmp_path: Path) -> None:
    checkpoint = tmp_path / "last.pt"
    checkpoint.write_bytes(b"weights")

    def facts(*overrides: str) -> dict[str, object]:
        return shared_facts(config(*overrides).each_seed(), ["train", "val"], [checkpoint])

    first = facts()
    assert facts("loader.num_threads=7", "runs=/elsewhere", "data.frames=/elsewhere") == first
    for override, key in (("train.lr=0.1", "train.lr"), ("seeds=[0,1]", "seeds"), ("model.dropout=0", "model.dropout")):
        assert facts(override)[key] != first[key]
    checkpoint.write_bytes(b"Weights")
    assert {key for key, value in facts().items() if value != first[key]} == {"the file last.pt"}
    checkpoint.unlink()
    assert facts()["the file last.pt"] == "no such file"


@pytest.mark.slow
def test_a_rank_with_other_shards_and_another_rate_ends_the_run_before_it_begins(
    arguments: MakeArguments, config: MakeConfig, tmp_path: Path
) -> None:
    settings = config()
    again = [f"data.shards={tmp_path / 'again'}", "data.frames_per_clip=8"]
    assert pack.main(arguments(*again)) == 0
    assert (tmp_path / "again" / "val" / INDEX_NAME).is_file()
    other = json.dumps([f"data.shards={tmp_path / 'again'}", "train.lr=0.5"])
    printed, codes = forked("tests.torchrun", *arguments(), ranks=2, **{OTHER_RANK: other})
    assert codes == [2, 2]
    (message,) = [line for line in printed if line.startswith("error: ")]
    assert f"train.lr: rank 1 has 0.5, rank 0 has {settings.train.lr}" in message
    assert "the packed val split: rank 1 has checksum" in message
    assert not (tmp_path / "runs").exists()
