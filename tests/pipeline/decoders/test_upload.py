"""Clips decoded on a CPU for a GPU are uploaded as they are decoded, and nothing but the device waits for that."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.batch import Batch, move
from pipeline.decoders.base import StreamSpec
from pipeline.decoders.pool import PoolDecoder
from pipeline.decoders.turbojpeg import JpegWindows
from pipeline.decoders.upload import Upload
from pipeline.views import View
from tests.jpegs import GRAY, write_jpeg

DEVICE = torch.device("cpu")  # stands in for a GPU, as FakeCuda does for torch.cuda


class FakeCuda:
    """Streams that note what is asked of them; a wait on the host (synchronize) they do not have."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []
        self._active = threading.local()
        self.current = self.Stream(DEVICE)

    def Stream(self, device: torch.device) -> "FakeStream":
        return FakeStream(self)

    @contextmanager
    def stream(self, stream: "FakeStream") -> Iterator[None]:
        self._active.stream = stream
        yield
        self._active.stream = None

    def current_stream(self, device: torch.device) -> "FakeStream":
        return getattr(self._active, "stream", None) or self.current


class FakeStream:
    def __init__(self, cuda: FakeCuda) -> None:
        self._log = cuda.log

    def record_event(self) -> str:
        self._log.append(("record", self))
        return f"event {len(self._log)}"

    def wait_event(self, event: str) -> None:
        self._log.append(("wait", self))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake, copy = FakeCuda(), Tensor.copy_

    def copied(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        assert non_blocking
        fake.log.append(("copy", fake.current_stream(DEVICE)))
        return copy(target, source)

    monkeypatch.setattr(Tensor, "copy_", copied)
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: fake.log.append(("keep", stream)))
    return fake


def test_each_batch_is_uploaded_ahead_and_waited_for_by_an_event_alone(cuda: FakeCuda) -> None:
    spec = StreamSpec(channels=1, num_planes=2, max_frames=8, frame_bytes=64 * 96, crop_size=32)
    views = [View(clip, np.arange(2), 5, 9, 32, clip == 1, (1.0, 1.0, 1.0)) for clip in range(2)]
    jpegs = [np.frombuffer(write_jpeg(sampling=GRAY, seed=seed), np.uint8) for seed in range(8)]
    threads = ThreadPoolExecutor(2)
    plain = PoolDecoder(spec, threads, JpegWindows(1, 64 * 96))
    plain.send(jpegs, views)
    expected = plain.receive()
    decoder = PoolDecoder(spec, threads, JpegWindows(1, 64 * 96), Upload(DEVICE, cuda))
    side = decoder._upload._stream  # type: ignore[union-attr]
    for _ in range(3):
        decoder.send(jpegs, views)
    for _, tasks in decoder._sent:
        wait(tasks)
    assert cuda.log == [("copy", side)] * 12  # a plane of a clip each, of all batches, before one of them is asked for
    cuda.log.clear()
    for _ in range(3):
        assert torch.equal(decoder.receive(), expected)
    assert cuda.log == [("record", side), ("wait", cuda.current), ("keep", cuda.current)] * 3
    decoder.close()


def test_what_goes_to_a_gpu_is_pinned_first(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: seen.append("pinned") or tensor)
    monkeypatch.setattr(Tensor, "to", lambda tensor, device, non_blocking: seen.append(non_blocking) or tensor)
    numbers = torch.arange(2)
    batch = Batch(None, torch.zeros(2, 2), numbers, numbers, numbers, (), {"verb": numbers})
    batch.to(torch.device("cuda", 0))
    assert seen == ["pinned", True] * 5
    seen.clear()
    move(numbers, torch.device("cpu"))
    assert seen == [True]


@pytest.mark.gpu
def test_a_gpu_gets_the_pixels_of_the_cpu() -> None:
    device = torch.device("cuda", 0)
    upload = Upload(device)
    source = torch.randint(256, (4, 1000, 1000), dtype=torch.uint8).pin_memory()
    target = upload.empty(tuple(source.shape))
    for piece, place in zip(source, target, strict=True):
        upload.copy(piece, place)
    assert torch.equal(upload.hand_over(target).clone().cpu(), source)
