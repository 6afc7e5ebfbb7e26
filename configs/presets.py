"""Which rows of the annotations belong to which split: presets, which are data of the config."""

from typing import Literal, cast

from pydantic import Field, model_validator

from configs.options import StrictModel, TargetName

SplitName = Literal["train", "val", "test"]
NO_PRESET = "none"
TAKEN_NAMES = ("clip_id", "video_id", "participant_id", "start_frame", "stop_frame", "height", "width")  # of records


class Preset(StrictModel):
    """Which rows of the annotations belong to which split, and what is to be told of them."""

    targets: dict[TargetName, str] | None = Field(None, min_length=1)
    participants: list[str] | dict[SplitName, list[str]] | None = None
    classes: dict[str, list[int]] = Field({})
    min_flow_frames: int = Field(1, gt=0)
    validation_videos: list[str] | None = None

    @model_validator(mode="after")
    def _classes_are_of_targets(self) -> "Preset":
        targets = (self.targets or {"label": ""}).keys()
        if taken := [name for name in targets if name in TAKEN_NAMES or name.endswith("_index")]:
            raise ValueError(f"targets: found {taken[0]!r}, which every record has already; allowed: another name")
        unknown = self.classes.keys() - targets
        if unknown:
            raise ValueError(f"classes: found {', '.join(sorted(unknown))}, which is none of its targets")
        return self

    def takes(self, participant: str, split: str) -> bool:
        """Whether a participant's clips belong to a split."""
        allowed = self.participants
        if isinstance(allowed, dict):
            allowed = allowed.get(cast(SplitName, split), [])
        return allowed is None or participant in allowed

    def renumber(self, classes: tuple[int, ...]) -> tuple[int, ...] | None:
        """The classes of a clip's targets as they are numbered here; None where one is not taken."""
        if not self.classes or classes[0] < 0:
            return classes
        kept = [self.classes.get(target) for target in self.targets or ("label",)]
        if any(taken is not None and number not in taken for taken, number in zip(kept, classes, strict=True)):
            return None
        return tuple(n if taken is None else taken.index(n) for taken, n in zip(kept, classes, strict=True))
