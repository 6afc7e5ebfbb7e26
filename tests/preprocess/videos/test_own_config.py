"""The config that extract.py writes fits the data, and loads."""

from pathlib import Path

import pytest
import yaml

from configs.load import load_config
from preprocess.annotations import Clip
from preprocess.videos.own_config import batch_size, own_config, run_name
from preprocess.videos.splits import Labelled


def labelled(num_clips: int, num_classes: int = 3) -> Labelled:
    clips = [Clip(f"v_{n}", "own", "v", 1, 20, (n % num_classes,)) for n in range(num_clips)]
    return Labelled({"train": clips, "val": clips[:2]}, None)


def test_small_sets_fill_their_batches_and_train_long_enough() -> None:
    assert [batch_size(num) for num in (1, 2, 5, 6, 12, 27, 48, 96, 10_000)] == [1, 2, 2, 2, 4, 8, 16, 32, 32]
    written = yaml.safe_load(own_config(Path("own"), {}, labelled(27), [256]))
    assert written["loader"] == {"batch_size": 8}
    # 27 clips are 3 full batches: 200 epochs of 3 steps are 600; patience is 200 / 50 times that of 50 epochs.
    assert written["train"] == {"epochs": 200, "lr_patience": 12, "stop_patience": 32}
    assert "train" not in yaml.safe_load(own_config(Path("own"), {}, labelled(5000), [256]))


def test_crops_of_large_frames_are_scaled() -> None:
    assert "clip" not in yaml.safe_load(own_config(Path("own"), {}, labelled(9), [256, 240]))
    assert yaml.safe_load(own_config(Path("own"), {}, labelled(9), [256, 1080]))["clip"] == {"scale": [0.7, 1.0]}


@pytest.mark.parametrize(
    ("folder", "name"),
    [("own data", "own-data"), ("_own", "own"), ("own(1)", "own-1"), ("öwn", "own"), ("日本", "own"), ("4711", "4711")],
)
def test_any_folder_s_name_becomes_one_of_a_run(
    folder: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {split: Path(folder) / f"annotations/{split}.csv" for split in ("train", "val")}
    (tmp_path / "config.yaml").write_text(own_config(Path(folder), paths, labelled(9), [256]), encoding="utf-8")
    config = load_config(tmp_path / "config.yaml")
    assert config.name == run_name(folder) == name
    assert config.data.frames == tmp_path / folder / "frames"
    assert config.data.shards == tmp_path / folder / "shards"
    assert config.data.annotations.splits() == {split: [tmp_path / path] for split, path in paths.items()}
