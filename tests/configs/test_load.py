"""Layering of configs, and the message that each mistake gets."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from configs import ConfigError, load_config
from configs.load import BASE, parse_options
from configs.methods import METHODS
from configs.options import CommonOptions

ROOT = Path(__file__).parents[2]
XNORM = ROOT / "configs" / "xnorm.yaml"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_base_yaml_has_every_key_with_what_it_means() -> None:
    base = yaml.safe_load(BASE.read_text())
    config = load_config(BASE)
    assert base.keys() == type(config).model_fields.keys()
    for section in ("data", "clip", "loader", "model", "train"):
        kind = CommonOptions if section == "model" else type(getattr(config, section))
        assert base[section].keys() == kind.model_fields.keys()
        assert uncommented(BASE, base[section]) == []
    assert uncommented(BASE, ("name", "seed", "seeds", "runs")) == []
    assert config.model == parse_options("xnorm")


@pytest.mark.parametrize("fusion", METHODS)
def test_a_methods_file_has_each_key_of_its_own_with_its_default_and_what_it_means(fusion: str) -> None:
    path = ROOT / "configs" / f"{fusion}.yaml"
    own = METHODS[fusion].model_fields.keys() - CommonOptions.model_fields.keys()
    assert yaml.safe_load(path.read_text())["model"].keys() == {"fusion", *own}
    assert uncommented(path, own) == []
    config = load_config(path)
    assert (config.name, config.model) == (fusion, parse_options(fusion))


def uncommented(path: Path, keys: Iterable[str]) -> list[str]:
    """The keys without a comment beside them."""
    return [key for key in keys if not re.search(rf"^ *{key}:.* # \w?", path.read_text(), re.MULTILINE)]


def test_later_layers_replace_earlier_ones(tmp_path: Path) -> None:
    path = write(tmp_path, "name: mine\nclip: {crop_size: 112}\ntrain: {lr: 1e-3}\n")
    config = load_config(path, ["train.lr=2e-3", "seed=7"])
    assert (config.name, config.clip.crop_size, config.clip.num_frames, config.train.lr) == ("mine", 112, 16, 2e-3)
    assert config.seed == 7


def test_an_override_replaces_a_mapping_whole() -> None:
    config = load_config(XNORM, ["data.annotations={train: [a.csv], val: [b.csv]}"])
    assert list(config.data.annotations.splits()) == ["train", "val"]


def test_an_override_may_reach_into_a_mapping() -> None:
    config = load_config(XNORM, ["data.annotations.val=[b.csv]", "model.pretrained.rgb=rgb_imagenet.pt"])
    assert config.data.annotations.val == [Path("b.csv")]
    assert config.data.annotations.train == [Path("data/annotations/EPIC_100_train.csv")]
    assert config.model.pretrained.rgb == Path("rgb_imagenet.pt")


def test_a_file_replaces_a_mapping_whole(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "data: {annotations: {train: [a.csv]}}"))
    assert list(config.data.annotations.splits()) == ["train"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.learning_rate=1"], r"command line: train\.learning_rate: unknown key; known here: .*lr"),
        (["clip.crop_sise=1"], r"command line: clip\.crop_sise: unknown key; did you mean 'crop_size'\?"),
        (["trian.lr=1"], r"trian: unknown key; did you mean 'train'\?"),
        (["clip.crop_size=31"], r"clip\.crop_size: found 31: input should be greater than or equal to 32"),
        (["clip.mirror=1.5"], r"clip\.mirror: found 1\.5: .*less than or equal to 1"),
        (["clip.scale=[0.9, 0.5]"], r"clip\.scale: found \[0\.9, 0\.5\]; allowed: \[low, high\]"),
        (["clip.temporal=often"], r"clip\.temporal: found 'often': input should be 'uniform' or 'jitter'"),
        (["train.lr=.nan"], r"train\.lr: found nan"),
        (["name=../evil"], r"name: found '\.\./evil'"),
        (["data.annotations=[a.csv]"], r"data\.annotations: found \['a\.csv'\]"),
        (["data.frames_per_clip=some"], r"frames_per_clip: found 'some'; allowed: a number above 0, or all$"),
        (["data.frames_per_clip=0"], r"frames_per_clip: found 0; allowed: a number above 0, or all$"),
        (["model.fusion=xnrm"], r"command line: model\.fusion: found 'xnrm', allowed: rgb, .*did you mean 'xnorm'\?"),
        (["model.fusion=[xnorm]"], r"command line: model\.fusion: found \['xnorm'\], allowed: rgb, "),
        (["model.trunk=[i3d]"], r"command line: model\.trunk: found \['i3d'\]: input should be 'i3d', "),
        (["model=3"], r"model: found 3"),
        (["model.dropuot=0"], r"model\.dropuot: unknown key; did you mean 'dropout'\?"),
        (["data=3"], r"data: found 3"),
        (["data.presets={a: {class: {}}}"], r"presets\.a\.class: unknown key; did you mean 'classes'\?"),
        (["crop_size"], r"'crop_size': overrides are written section\.key=value"),
        (["clip.scale=[1"], r"clip\.scale: '\[1' is not valid YAML"),
        (["seeds=[]"], r"seeds: found \[\]: .*at least 1 item"),
        (["seeds=[0, 1, 0]"], r"seeds: found \[0, 1, 0\]; allowed: each seed once"),
        (["seeds=[-1]"], r"seeds: found -1: .*greater than or equal to 0"),
        (["seeds=3"], r"seeds: found 3: .*valid list"),
        (["data.shards=~nobody-of-this-name/x"], r"data\.shards: found '~nobody-of-this-name/x': .*full path"),
        (["data.annotations.val=[$NOT_SET_HERE]"], r"data\.annotations\.val: .*variable NOT_SET_HERE is not set"),
        (["model.pretrained.rgb=$NOT_SET_HERE"], r"model\.pretrained\.rgb: .*variable NOT_SET_HERE is not set"),
        (["seed.deeper=1"], r"seed\.deeper: seed is no section"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(XNORM, overrides)


def test_seeds_are_one_run_each_with_a_name_and_seed_of_its_own() -> None:
    config = load_config(XNORM, ["name=x", "seeds=[3, 5]"])
    assert [(run.name, run.seed, run.seeds) for run in config.each_seed()] == [
        ("x-seed3", 3, None),
        ("x-seed5", 5, None),
    ]
    assert dict(config.each_seed()[1]) == dict(load_config(XNORM, ["name=x-seed5", "seed=5"]))
    alone = load_config(XNORM)
    assert alone.each_seed() == [alone]


def test_an_option_of_another_method_has_no_effect() -> None:
    message = (
        r"command line: model\.exchange_order: has no effect when fusion is 'late' \(it belongs to xnorm\); remove it"
    )
    with pytest.raises(ConfigError, match=message):
        load_config(ROOT / "configs" / "late.yaml", ["model.exchange_order=parallel"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip: {crop_size: [1]}", r"mine\.yaml: clip\.crop_size: found \[1\]"),
        ("a: [", r"mine\.yaml: not valid YAML"),
        ("- 1", r"mine\.yaml: expected a mapping of sections, found list"),
        ("!!python/object/apply:os.system [true]", r"mine\.yaml: not valid YAML: could not determine a constructor"),
        ("seed: !!python/name:os.system", r"mine\.yaml: not valid YAML: could not determine a constructor"),
        (
            "a: &a [1, 1]\nb: &b [*a, *a]\nc: &c [*b, *b]\nseed: [*c, *c]",
            r"mine\.yaml: seed: found \[\[\[\.\.\.\], \[\.\.\.\]\], \[\[\.\.\.\], \[\.\.\.\]\]\]: ",
        ),
        (
            "a: &a [*a]",
            r"mine\.yaml: not valid YAML: its aliases stand for more than 100,000 values, or for themselves",
        ),
        ("seed: 2001-99-99", r"mine\.yaml: not valid YAML: month must be in 1\.\.12"),
        ("seed: !!timestamp x", r"mine\.yaml: not valid YAML: a value that its tag does not fit"),
        ("seed: !!bool x", r"mine\.yaml: not valid YAML: a value that its tag does not fit"),
        ("[" * 5000, r"mine\.yaml: not valid YAML: nested too deeply"),
        ("data: {shards: $NOT_SET_HERE/x}", r"mine\.yaml: data\.shards: found '\$NOT_SET_HERE/x': .* is not set"),
        ("seed: 1\nseed: 2", r"mine\.yaml: not valid YAML: 'seed' stands twice"),
        ("clip: {color: 0.1, color: 0.2}", r"mine\.yaml: not valid YAML: 'color' stands twice"),
        ("clip: 3", r"mine\.yaml: clip: found 3"),
        ("seed: -1\nclip: {num_frames: 4}", r"(?s)mine\.yaml: seed: found -1.*mine\.yaml: clip\.num_frames: found 4"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text))


def test_a_missing_file_names_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot read the config .*configs/xnorm\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


def test_the_projects_own_files_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config("configs/late.yaml").name == "late"
    (tmp_path / "late.yaml").write_text("name: mine\n")
    assert load_config("late.yaml").name == "mine"


def test_home_and_variables_are_written_out_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "/disk")
    text = "runs: ~/runs\ndata: {frames: $DATA/f, shards: '${DATA}/$', annotations: {train: [~/a.csv, a~]}}\n"
    config = load_config(write(tmp_path, text), ["model.pretrained.flow=$DATA/flow.pt"])
    assert config.runs == Path("/home/me/runs")
    assert (config.data.frames, config.data.shards) == (Path("/disk/f"), Path("/disk/$"))
    assert config.data.annotations.train == [Path("/home/me/a.csv"), Path("a~")]
    assert config.model.pretrained.flow == Path("/disk/flow.pt")


@pytest.mark.parametrize(
    ("given", "name"),
    [("4711", "4711"), ("0815", "0815"), ("'4711'", "4711"), ("2024-01-31", "2024-01-31"), ("x-$JOB_ID", "x-4711")],
)
def test_a_number_is_a_name(given: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_ID", "4711")
    assert load_config(XNORM, [f"name={given}"]).name == name


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert dict(load_config(write(tmp_path, ""))) == dict(load_config(BASE))


def test_the_command_that_packs_has_the_overrides_of_the_data_alone() -> None:
    config = load_config(XNORM, ["train.lr=0.1", "data.shards=my shards", "data.annotations={train: [a.csv]}"])
    command = config.pack_command
    words = shlex.split(command)
    assert words[:4] == ["python", "preprocess/pack.py", "-c", str(XNORM)]
    assert load_config(words[3], words[4:]).data == config.data
    assert "train.lr" not in command
    assert config.model_copy(update={"name": "other"}).pack_command == command


def test_an_unknown_section_is_told_from_where_it_was_set() -> None:
    with pytest.raises(ConfigError, match=r"^command line: trian: unknown key; did you mean 'train'\?$"):
        load_config(XNORM, ["trian.lr=0.1"])


@pytest.mark.parametrize("fusion", ["late", "xnorm"])
def test_the_recipes_for_all_of_epic_say_what_they_come_to(fusion: str) -> None:
    """The steps of 67,217 clips; tests/engine/test_recipes.py has parameters and memory."""
    path = ROOT / f"configs/epic100-{fusion}.yaml"
    config, text = load_config(path), path.read_text()
    steps = 67_217 // config.loader.batch_size
    assert (
        f"{steps:,} steps of {config.loader.batch_size} clips an epoch, {config.train.epochs * steps:,} in all" in text
    )
    assert "NOT MEASURED HERE" in text
    assert config.data.rows.targets is not None
    assert tuple(config.data.rows.targets) == config.model.targets == ("verb", "noun")
    assert config.loader.batch_size % (8 * 8) == 0
    assert config.train.warmup_steps < config.train.epochs * steps


def test_stages_that_are_computed_again_are_not_compiled() -> None:
    with pytest.raises(ConfigError, match=r"train.compile: true is not possible with model.checkpoint_stages"):
        load_config(XNORM, ["train.compile=true", "model.checkpoint_stages=all"])
