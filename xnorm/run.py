"""A trained run that can be asked: what it says of videos that it has never seen, and the features of its streams."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from common.errors import ConfigError, UserError
from common.paths import expand_path
from engine.runs.checkpoint import State
from engine.runs.provenance import source_differences
from engine.runtime.device import Placement
from models import FusionModel
from models.trunks.trunk import Trunk
from pipeline.options import LoaderOptions
from preprocess.videos.encoding import ExtractOptions
from preprocess.videos.segments import read_table
from xnorm.predictions import Predictions
from xnorm.sources import ClipSource, SplitSource, Storing, VideoSource, is_split
from xnorm.spans import Cut

UNKNOWN = """\
its frames were not made by extract.py, so that how flow is to be made of a video is not known; \
say it by --flow-options FILE (an extract.json, or its options), or give a packed split in place of videos"""


@dataclass(frozen=True)
class TrainedRun:
    """A model and all that it takes to show it clips as it was trained to see them.

    Attributes:
        path: the checkpoint.
        model: in eval mode, on its device.
        placement: the device; the precision is fp32.
        options: of the loaders that show it clips.
        storing: what packing stored of each clip.
        classes: the names of its classes [C]; None where the run knows none.
        made: how frames and flow are made of a video; None: not known.
        data: what the checkpoint knows of its training data.
    """

    path: Path
    model: FusionModel
    placement: Placement
    options: LoaderOptions
    storing: Storing
    classes: list[str] | None
    made: ExtractOptions | None
    data: State

    @property
    def about(self) -> dict[str, Any]:
        """What a file of predictions says of the run, plain values."""
        made = None if self.made is None else self.made.model_dump()
        return {"checkpoint": str(self.path), "fusion": self.model.options.fusion, "made": made}

    def predict(self, source: str | Path, **cut: Any) -> Predictions:
        """What the run says of a video, a folder of frames or a packed split.

        Args:
            source: its path.
            cut: `window` and `hop`, seconds, or `segments`, a CSV as extract.py reads it: how a video is cut into
                clips, of which it is one without them; `fps`: frames per second to take, or of a folder's frames.

        Raises:
            UserError: the source cannot be used, or how flow is made is not known.
            ConfigError: arguments that do not go together.
        """
        return self.score(self.open(source, **cut))

    @torch.inference_mode()
    def features(self, source: str | Path, **cut: Any) -> dict[str, Tensor]:
        """What the last stage of each stream's trunk makes of the clips: float32 [N, T', C], the mean over each map.

        Arguments and errors are those of predict().
        """
        found: dict[str, list[Tensor]] = {}
        with last_stages(self.model) as maps:
            for _ in self._outputs(self.open(source, **cut)):
                for stream, features in maps.items():  # [B, C, T', H', W']
                    found.setdefault(stream, []).append(features.float().mean(dim=(3, 4)).transpose(1, 2).cpu())
        return {stream: torch.cat(parts) for stream, parts in found.items()}

    def open(
        self,
        source: str | Path,
        *,
        window: float | None = None,
        hop: float | None = None,
        segments: str | Path | None = None,
        fps: float | None = None,
    ) -> ClipSource:
        """Find the clips of a source, without decoding them; arguments are those of predict().

        Raises:
            UserError, ConfigError: as of predict().
        """
        path = expand_path(source)
        cut = Cut(window, hop, None if segments is None else read_table(expand_path(segments), labelled=False))
        if is_split(path):
            if cut != Cut() or fps is not None:
                raise ConfigError(f"{path}: a packed split is cut into clips already; leave out window, segments, fps")
            split = SplitSource(path, self.options)
            made = source_differences(self.data, split.loader)
            split.notes += [f"{path}: not made as in training: {'; '.join(made)}"] if made else []
            return split
        if self.made is None:
            raise UserError(f"{self.path}: {UNKNOWN}")
        made_as = self.made if fps is None else _at_rate(self.made, fps)
        if cut.segments is not None and cut.segments.unit == "frames" and made_as.fps is not None:
            raise ConfigError(
                f"{cut.segments.path}: counts frames, which --fps {made_as.fps:g} makes others; write seconds"
            )
        return VideoSource(path, cut, made_as, self.options, self.storing)

    @torch.inference_mode()
    def score(self, source: ClipSource, on_progress: Callable[[int], None] | None = None) -> Predictions:
        """What the run says of the clips of open(); `on_progress` is told how many are done.

        Raises:
            UserError: the video is damaged, or the scores of a clip are not finite.
        """
        logits: list[Tensor] = []
        for batch in self._outputs(source):
            logits.append(batch)
            if not batch.isfinite().all():
                raise UserError(f"{self.path}: the scores are not finite; its weights have diverged")
            if on_progress is not None:
                on_progress(sum(map(len, logits)))
        return Predictions(source.spans, torch.cat(logits), self.classes, source.notes)

    def _outputs(self, source: ClipSource) -> Iterator[Tensor]:
        """The logits of each batch, of the first target, float32 [B, C] on the CPU."""
        for batch in source.batches():
            batch = batch.to(self.placement.device)
            logits = self.model(batch.rgb, batch.flow).logits.float().cpu()
            yield next(iter(self.model.targets.split(logits).values()))


def _at_rate(made: ExtractOptions, fps: float) -> ExtractOptions:
    try:
        return ExtractOptions(**made.model_dump() | {"fps": fps})
    except ValidationError:
        allowed = ExtractOptions.model_fields["fps"].description
        raise ConfigError(f"fps: found {fps}; allowed: {allowed}") from None


@contextmanager
def last_stages(model: nn.Module) -> Iterator[Mapping[str, Tensor]]:
    """Lend a mapping that has, after each forward pass, by stream what its trunk's last stage gave, [B, C, T', H', W'].

    A trunk is a stream's that is called as the stream, or so with `_enc` after it.
    """
    found: dict[str, Tensor] = {}

    def note(stream: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        found[stream] = output

    hooks = [
        trunk.stage(trunk.stages[-1]).register_forward_hook(partial(note, name.removesuffix("_enc")))
        for name, trunk in model.named_children()
        if isinstance(trunk, Trunk)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
