"""Stale labels: packed splits beside the annotations as they are now."""

from collections.abc import Iterable

from common.display import Display
from common.errors import UserError
from configs.schema import DataSection
from pipeline.format.split import Split, open_split
from preprocess.annotations import Clip
from preprocess.pack import read_splits
from preprocess.packing.plan import clips_digest


def note_stale_labels(data: DataSection, splits: Iterable[str], display: Display) -> None:
    """Note splits whose labels in the annotations are other than in the shards."""
    try:
        annotated, _ = read_splits(data, Display(quiet=True))
        found = {name: changed_clips(open_split(data.shards / name), annotated[name]) for name in splits}
    except UserError:  # annotations that are not here say nothing; shards that do not open are somebody else's to say
        return
    for name, changed in found.items():
        if changed:
            display.print(
                f"note: {data.shards / name}: {changed}; these shards are read as they are; "
                "pack again where the annotations are right"
            )


def changed_clips(split: Split, clips: list[Clip]) -> str:
    """How the annotations differ from what was packed, in words; nothing where they do not."""
    if split.index.inputs.annotations == clips_digest(clips):
        return ""
    packed = dict(zip(split.table.clip_id.tolist(), map(tuple, split.table.targets.tolist()), strict=True))
    now = {clip.clip_id.encode(): clip.targets for clip in clips}
    left_out = {entry.clip_id.encode() for entry in split.index.left_out}
    others = sum(now[clip] != labels for clip, labels in packed.items() if clip in now)
    counts = {
        "have other labels": others,
        "are no longer": len(packed.keys() - now.keys()),
        "are new": len(now.keys() - packed.keys() - left_out),
    }
    said = ", ".join(f"{number:,} {what}" for what, number in counts.items() if number)
    return f"of its {len(packed):,} clips, {said or 'segments lie elsewhere'} in data.annotations"
