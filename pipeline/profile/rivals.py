"""The rivals of benchmarks/rivals, which are loaded when they are asked for, as candidates of a profile."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from common.display import Display
from common.errors import UserError
from configs import Config
from pipeline.format.split import Split, open_split
from pipeline.format.streams import STREAMS
from pipeline.loader import ClipLoader


@dataclass
class Rivals:
    """Those that run, and those that are left out.

    Attributes:
        candidates: by name, an endless way of making batches.
        about: by name, versions of what it is made of, and how far its pixels are from those of an independent decode.
        left_out: by name, why.
    """

    candidates: dict[str, Iterator[int]] = field(default_factory=dict)
    about: dict[str, dict[str, str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def close(self) -> None:
        """End their threads and worker processes."""
        while self.candidates:
            self.candidates.popitem()


def open_rivals(
    config: Config, split: Split, scratch: Path, display: Display, *, beside: Sequence[Path], plain: bool, extra: bool
) -> Rivals:
    """Open rivals on the split's clips, and the loader on the same clips packed otherwise (`beside`).

    `plain` are the rivals that need no further package, `extra` those that do.

    Raises:
        UserError: the rivals are not here, or cannot load this split; or one of `beside` holds other clips.
    """
    try:
        run: Any = import_module("benchmarks.rivals.run")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("benchmarks"):
            raise
        raise UserError(
            "--rivals, --baselines: the other ways are in the folder benchmarks of the project's clone, and this is an "
            "installed copy: run python -m pipeline.profile there"
        ) from None
    _check(config, split)
    base: Any = import_module("benchmarks.rivals.base")
    task = base.Task(
        split,
        config.data.frames,
        scratch,
        config.clip.num_frames,
        config.clip.crop_size,
        config.loader.batch_size,
        config.loader.num_threads,
        config.loader.prefetch,
        config.seed,
    )
    rivals = [_loader_of(config, split, other, run) for other in beside]
    rivals += [rival for rival in run.RIVALS if (extra if rival.from_extra else plain)]
    display.begin("opening the others", len(rivals), unit="ways")
    found = Rivals()
    for rival in rivals:
        display.update(rival.name)
        opened = run.open_rival(rival, task)
        if isinstance(opened, str):
            found.left_out[rival.name] = opened
            display.print(f"without {rival.name}: {opened}")
        else:
            found.candidates[rival.name] = opened.sizes
            found.about[rival.name] = {"versions": opened.versions, "pixels": str(opened.pixels)}
        display.advance()
    return found


def _loader_of(config: Config, split: Split, shards: Path, run: Any) -> Any:
    """The project's own loader on another packing of the split, as a rival."""
    other = open_split(shards / split.dir.name)
    if other.table.clip_id.tolist() != split.table.clip_id.tolist():
        raise UserError(f"--beside {shards}: holds other clips than {split.dir}; pack the same annotations")
    plain = {"temporal": "uniform", "scale": (1.0, 1.0), "color": 0.0}  # as the rivals see clips

    def open_loader() -> ClipLoader:
        there = config.model_copy(update={"data": config.data.model_copy(update={"shards": shards})})
        return ClipLoader.from_config(there, split.dir.name, train=True, **plain)

    return run.our_loader(f"loader, {other.codec}", open_loader)


def _check(config: Config, split: Split) -> None:
    if split.codec == "raw":
        raise UserError(
            f"--rivals, --baselines: they load JPEGs, and {split.dir} stores raw frames; pack it with data.codec=jpeg"
        )
    if missing := [stream for stream in STREAMS if stream not in split.streams]:
        raise UserError(f"--rivals, --baselines: they load RGB and flow, and {split.dir} has no {missing[0]}")
    if min(split.table.height.min(), split.table.width.min()) < config.clip.crop_size:
        raise UserError(
            f"--rivals, --baselines: frames of {split.dir} are smaller than clip.crop_size, which they cannot scale up"
        )
