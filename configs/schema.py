"""What can be configured: every key with its type and range; base.yaml has the defaults and what they mean."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from common.paths import ConfigPath, expand
from configs.options import CommonOptions, StrictModel
from configs.presets import NO_PRESET, Preset

Seed = Annotated[int, Field(ge=0, lt=2**32)]
PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


StreamName = Literal["rgb", "flow"]
METRICS, LOSS = ("top1", "mean_class"), "loss"  # that tell the best epoch


def _ordered(scale: tuple[float, float]) -> tuple[float, float]:
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"found [{scale[0]}, {scale[1]}]; allowed: [low, high] with 0 < low <= high <= 1")
    return scale


Scale = Annotated[tuple[float, float], AfterValidator(_ordered)]


class Annotations(StrictModel):
    """The CSV files of each split; a split that is not named does not exist."""

    train: list[ConfigPath] | None = Field(None, min_length=1)
    val: list[ConfigPath] | None = Field(None, min_length=1)
    test: list[ConfigPath] | None = Field(None, min_length=1)

    def splits(self) -> dict[str, list[Path]]:
        """The named splits and their files, in the order train, val, test."""
        return {name: files for name, files in self if files is not None}


SPLITS = tuple(Annotations.model_fields)


class DataSection(StrictModel):
    """Where the frames and annotations are, and what the shards hold."""

    frames: ConfigPath
    annotations: Annotations
    presets: dict[str, Preset]
    preset: str
    layout: Literal["epic", "denseflow", "tsn"]
    flow_stride: PositiveInt | None
    streams: list[StreamName] | None = Field(min_length=1)
    shards: ConfigPath
    frames_per_clip: int | Literal["all"]
    codec: Literal["jpeg", "jpeg-restarts", "raw"]
    raw_short_side: PositiveInt | None
    check: Literal["decode", "header"]
    on_bad_clip: Literal["error", "skip"]
    shard_mib: PositiveInt
    workers: int = Field(ge=0)

    @field_validator("preset")
    @classmethod
    def _is_known(cls, preset: str, info: ValidationInfo) -> str:
        known = [*info.data.get("presets", {}), NO_PRESET]
        if preset not in known:
            raise ValueError(f"found {preset!r}; allowed: {', '.join(known)}, or another key of data.presets")
        return preset

    @property
    def rows(self) -> Preset:
        """What the preset takes."""
        return Preset() if self.preset == NO_PRESET else self.presets[self.preset]

    @field_validator("frames_per_clip", mode="before")
    @classmethod
    def _number_or_all(cls, frames: object) -> object:
        if frames != "all" and not (isinstance(frames, int) and frames > 0):
            raise ValueError(f"found {frames!r}; allowed: a number above 0, or all")
        return frames

    @field_validator("raw_short_side")
    @classmethod
    def _raw_alone(cls, short_side: int | None, info: ValidationInfo) -> int | None:
        if short_side is not None and info.data.get("codec") != "raw":
            raise ValueError(
                f"has no effect when data.codec is {info.data.get('codec')}; set data.codec=raw, or leave it out"
            )
        return short_side


class ClipSection(StrictModel):
    """What of a clip the model sees, and how it is augmented in training."""

    num_frames: int = Field(ge=8)
    crop_size: int = Field(ge=32)
    temporal: Literal["uniform", "jitter"]
    mirror: Fraction
    scale: Scale
    color: float = Field(ge=0, lt=1)
    synchronized: bool
    rescale_flow: bool


class LoaderSection(StrictModel):
    """How batches are made."""

    batch_size: PositiveInt
    num_threads: PositiveInt
    device: Literal["auto", "cpu", "cuda"]
    decoder: Literal["auto", "dali", "turbojpeg"]
    prefetch: PositiveInt
    balance: Fraction
    on_corrupt: Literal["error", "skip"]


class TrainSection(StrictModel):
    """The optimisation."""

    epochs: PositiveInt
    optimizer: Literal["adamw", "sgd"]
    lr: float = Field(gt=0)
    head_lr_factor: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    decay_vectors: bool
    class_weights: Fraction
    label_smoothing: float = Field(ge=0, lt=1)
    clip_norm: float = Field(gt=0)
    accumulate: PositiveInt
    precision: Literal["auto", "fp32", "fp16", "bf16"]
    compile: bool
    sync_batchnorm: bool
    timeout: float = Field(gt=0)
    device: Literal["auto", "cpu", "cuda"]
    schedule: Literal["plateau", "cosine", "step"]
    warmup_steps: int = Field(ge=0)
    lr_patience: int = Field(ge=0)
    lr_factor: float = Field(gt=0, lt=1)
    lr_steps: list[PositiveInt] | None
    stop_patience: PositiveInt
    monitor: str
    log_every: PositiveInt
    checkpoint_every: PositiveInt
    tensorboard: bool
    init_from: list[ConfigPath] | None = Field(min_length=1)

    @field_validator("init_from", mode="before")
    @classmethod
    def _one_or_several(cls, files: object) -> object:
        return [files] if isinstance(files, str | Path) else files

    @model_validator(mode="after")
    def _steps_of_the_rate(self) -> "TrainSection":
        if (self.lr_steps is None) == (self.schedule == "step"):
            raise ValueError(
                "lr_steps: needed when train.schedule is step: the epochs after which the rate drops"
                if self.lr_steps is None
                else f"lr_steps: has no effect when train.schedule is {self.schedule}; set it to null"
            )
        if self.lr_steps and self.lr_steps != sorted({epoch for epoch in self.lr_steps if epoch < self.epochs}):
            raise ValueError(f"lr_steps: found {self.lr_steps}; allowed: ascending, below train.epochs={self.epochs}")
        return self


class Config(StrictModel):
    """One training run and the data it needs."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: Seed
    seeds: list[Seed] | None = Field(min_length=1)
    runs: ConfigPath
    data: DataSection
    clip: ClipSection
    loader: LoaderSection
    model: CommonOptions  # of the method, see configs.load
    train: TrainSection
    _pack_command: str = PrivateAttr("python preprocess/pack.py -c CONFIG")

    @property
    def pack_command(self) -> str:
        """The command line that packs the shards which this reads."""
        return self._pack_command

    @field_validator("name", mode="before")
    @classmethod
    def _number_or_variable(cls, name: object) -> object:
        """Take a queue's job number for a name, and $JOB_ID for what it holds."""
        if isinstance(name, int) and not isinstance(name, bool):
            return str(name)
        return expand(name) if isinstance(name, str) else name

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, seeds: list[int] | None) -> list[int] | None:
        if seeds is not None and len(set(seeds)) < len(seeds):
            raise ValueError(f"found {seeds}; allowed: each seed once")
        return seeds

    @model_validator(mode="after")
    def _batchnorm_is_not_frozen(self) -> "Config":
        if self.train.sync_batchnorm and self.model.frozen_norms:
            raise ValueError(
                f"train.sync_batchnorm: has no effect when model.{self.model.frozen_norms} is true; set one of the two "
                "to false"
            )
        return self

    @model_validator(mode="after")
    def _compiled_once(self) -> "Config":
        if self.train.compile and self.model.checkpoint_stages:
            raise ValueError(
                "train.compile: true is not possible with model.checkpoint_stages: what is compiled cannot run a stage "
                "again without tracking its batch twice; leave one of the two out"
            )
        return self

    @model_validator(mode="after")
    def _monitor_is_measured(self) -> "Config":
        allowed = [*METRICS, LOSS, *(f"{name}_{metric}" for name in self.model.measured for metric in METRICS)]
        if self.train.monitor not in allowed:
            raise ValueError(f"train.monitor: found {self.train.monitor!r}; allowed: {', '.join(allowed)}")
        return self

    @property
    def streams(self) -> list[StreamName]:
        """The streams to be stored: those that data.streams names, or that the method reads."""
        alone: dict[str, list[StreamName]] = {"rgb": ["rgb"], "flow": ["flow"]}
        return self.data.streams or alone.get(self.model.fusion, ["rgb", "flow"])

    def each_seed(self) -> list["Config"]:
        """The runs that this asks for: one a seed, each with a name of its own; without `seeds` itself alone."""
        if self.seeds is None:
            return [self]
        return [
            self.model_copy(update={"name": f"{self.name}-seed{seed}", "seed": seed, "seeds": None})
            for seed in self.seeds
        ]
