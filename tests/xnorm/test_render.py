"""The colours of flow and the caption that a frame gets."""

from io import BytesIO

import av
import numpy as np
import pytest
import torch

from xnorm import render
from xnorm.predictions import Predictions
from xnorm.render import ENCODERS, FORMATS, draw_caption, encode, nearest_clips
from xnorm.spans import Span


def predictions(*spans: tuple[int, int]) -> Predictions:
    found = [Span("a.mp4", str(number), None, None, *span) for number, span in enumerate(spans)]
    return Predictions(found, torch.zeros(len(spans), 2), ["a" * 500, "b"])


def test_a_frame_has_the_caption_of_the_clip_whose_middle_is_nearest() -> None:
    nearest = nearest_clips(predictions((2, 5), (4, 9)), 10).tolist()
    assert nearest == [-1, 0, 0, 0, 0, 1, 1, 1, 1, -1]


def test_a_caption_is_as_wide_as_the_frames_and_cuts_long_names() -> None:
    one = draw_caption(predictions((1, 2))[0], 480, "flow")
    assert one.shape == draw_caption(None, 480, "flow").shape == (88, 480, 3)
    name = one[28:44, :230]
    assert name.max() > 200  # something is written there
    assert (one[24:44, 226:239] == one[0, 0]).all()  # and ends before the bar


@pytest.mark.parametrize("container_format", FORMATS.values())
@pytest.mark.parametrize("encoder", ENCODERS)
def test_frames_keep_their_times_in_every_format_and_encoder(
    encoder: str, container_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "ENCODERS", (encoder,))
    frames = [np.full((32, 48, 3), 40 * number, np.uint8) for number in range(5)]
    times = [2.0, 2.0400001, 2.12, 2.5, 2.50001]  # a rate that varies, from a time that is not zero
    file = BytesIO()
    assert len(list(encode(file, container_format, iter(frames), times))) == 5
    file.seek(0)
    with av.open(file) as container:
        found = [(frame.time, int(frame.to_ndarray(format="rgb24").mean())) for frame in container.decode(video=0)]
    begin = found[0][0]
    assert [time - begin for time, _ in found] == pytest.approx([0, 0.04, 0.12, 0.5, 0.5], abs=0.0011)
    assert [level for _, level in found] == pytest.approx([0, 40, 80, 120, 160], abs=8)
