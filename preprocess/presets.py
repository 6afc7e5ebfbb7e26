"""Which rows of the annotations belong to which split."""

from configs.epic import flow_index, stride_of_id
from preprocess.annotations import Clip

# The subset of X-Norm: three kitchens (of each, the videos held out for validation), the eight most frequent verbs,
# and enough flow for sixteen different frames.
NUM_VERBS = 8  # take, put, wash, open, close, insert, turn-on, cut
MIN_FLOW_FRAMES = 16
VALIDATION_VIDEOS = {
    "P01": ("P01_02", "P01_04", "P01_05", "P01_07", "P01_104", "P01_107", "P01_17"),
    "P08": ("P08_03", "P08_23", "P08_24", "P08_26"),
    "P22": ("P22_108", "P22_110", "P22_113", "P22_14"),
}


def select(clips: list[Clip], preset: str, split: str) -> list[Clip]:
    """The clips of `split` under `preset`, in the order of the files."""
    if preset == "none":
        return clips
    return [clip for clip in clips if _is_xnorm_verb(clip) and _is_in_split(clip, split)]


def _is_xnorm_verb(clip: Clip) -> bool:
    if clip.participant_id not in VALIDATION_VIDEOS or clip.label >= NUM_VERBS:
        return False
    stride = stride_of_id(clip.video_id) or 1
    first, last = (flow_index(frame, stride) for frame in (clip.start_frame, clip.stop_frame))
    return last - first + 1 >= MIN_FLOW_FRAMES


def _is_in_split(clip: Clip, split: str) -> bool:
    is_validation = clip.video_id in VALIDATION_VIDEOS[clip.participant_id]
    return split == "test" or is_validation == (split == "val")
