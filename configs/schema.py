"""What can be configured: every key with its type, range and meaning; the defaults stand in base.yaml."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from common.paths import ConfigPath, expand
from configs.methods import CommonOptions, StrictModel
from configs.presets import NO_PRESET, Preset

Seed = Annotated[int, Field(ge=0, lt=2**32)]
PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


StreamName = Literal["rgb", "flow"]


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

    frames: ConfigPath = Field(description="root of <participant>/{rgb_frames,flow_frames}/<video>[.tar]")
    annotations: Annotations
    presets: dict[str, Preset] = Field(description="what each preset takes")
    preset: str = Field(description="which rows belong to which split: a key of presets, or none for every row")
    layout: Literal["epic", "denseflow", "tsn"] = Field(description="where frames lie and how they are named")
    flow_stride: PositiveInt | None = Field(description="RGB frames per flow frame, where a video's id says none")
    streams: list[StreamName] | None = Field(min_length=1, description="what is stored; null: what model.fusion needs")
    shards: ConfigPath = Field(description="root of <split>/00000.tfrecord ...")
    frames_per_clip: int | Literal["all"] = Field(description="stored frames a clip, evenly spaced")
    codec: Literal["jpeg", "jpeg-restarts", "raw"] = Field(
        description="what is stored of a frame: its JPEG file, that with restart markers, or its pixels"
    )
    raw_short_side: PositiveInt | None = Field(description="raw alone: larger frames are scaled down to it; null: none")
    check: Literal["decode", "header"] = Field(description="how each JPEG is checked as it is packed")
    on_bad_clip: Literal["error", "skip"] = Field(description="stop at bad clips, or leave them out and list them")
    shard_mib: PositiveInt = Field(description="size of a shard in MiB; clips stay whole")
    workers: int = Field(ge=0, description="packing processes; 0: as many as there are cores")

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

    num_frames: int = Field(ge=8, description="T, frames a clip")
    crop_size: int = Field(ge=32, description="H = W in pixels")
    temporal: Literal["uniform", "jitter"] = Field(description="evenly spaced, or one at random in each equal part")
    mirror: Fraction = Field(description="probability of a horizontal mirror")
    scale: Scale = Field(description="crop side as a fraction of the short side; [1, 1]: off")
    color: float = Field(ge=0, lt=1, description="strength of the colour jitter of RGB; 0: off")
    synchronized: bool = Field(description="one window and mirror for all streams; false is an ablation")
    rescale_flow: bool = Field(description="scale flow values with the picture when a crop is resized")


class LoaderSection(StrictModel):
    """How batches are made."""

    batch_size: PositiveInt = Field(description="clips a step over all ranks together")
    num_threads: PositiveInt = Field(description="decoding threads a process")
    device: Literal["auto", "cpu", "cuda"] = Field(description="where JPEGs are decoded; auto: where the model is")
    decoder: Literal["auto", "dali", "turbojpeg"] = Field(description="what decodes; auto: DALI on a GPU, else a pool")
    prefetch: PositiveInt = Field(description="batches decoded ahead")
    on_corrupt: Literal["error", "skip"] = Field(description="stop at a corrupt clip, or train on the next instead")


class TrainSection(StrictModel):
    """The optimisation."""

    epochs: PositiveInt
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    clip_norm: float = Field(gt=0, description="largest norm of the whole gradient")
    precision: Literal["auto", "fp32", "fp16", "bf16"] = Field(description="auto: bf16 or fp16 on a GPU, fp32 on a CPU")
    compile: bool = Field(description="torch.compile the model")
    sync_batchnorm: bool = Field(description="BatchNorm over the clips of all processes, not of each by itself")
    timeout: float = Field(gt=0, description="seconds that a process waits for another before the run ends")
    device: Literal["auto", "cpu", "cuda"] = Field(description="where the model runs; auto: a GPU where there is one")
    lr_patience: int = Field(ge=0, description="epochs without a better validation accuracy before the rate drops")
    lr_factor: float = Field(gt=0, lt=1, description="what the rate is multiplied by when it drops")
    stop_patience: PositiveInt = Field(description="epochs without a better validation accuracy before training stops")
    log_every: PositiveInt = Field(description="steps between lines of metrics.jsonl")
    checkpoint_every: PositiveInt = Field(description="steps between writes of last.pt within an epoch")
    tensorboard: bool = Field(description="write TensorBoard events beside metrics.jsonl: curves and pictures")


class Config(StrictModel):
    """One training run and the data it needs."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the run's folder")
    seed: Seed
    seeds: list[Seed] | None = Field(min_length=1, description="train once with each, in <runs>/<name>-seed<seed>")
    runs: ConfigPath = Field(description="where run folders are made")
    data: DataSection
    clip: ClipSection
    loader: LoaderSection
    model: CommonOptions  # of the method, see configs.load
    train: TrainSection
    _given: tuple[str, tuple[str, ...]] = PrivateAttr(("CONFIG", ()))  # the file and the overrides it was made of

    def __eq__(self, other: object) -> bool:
        """Two configs are equal when all keys are, wherever they were read."""
        return isinstance(other, Config) and dict(self) == dict(other)

    @property
    def pack_command(self) -> str:
        """The command line that packs the shards which this reads."""
        path, overrides = self._given
        data = [override for override in overrides if override.startswith("data.")]
        return shlex.join(["python", "preprocess/pack.py", "-c", path, *data])

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
        if self.train.sync_batchnorm and self.model.freeze_trunk:
            raise ValueError(
                "train.sync_batchnorm: has no effect when model.freeze_trunk is true; set one of the two to false"
            )
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
