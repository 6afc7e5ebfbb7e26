"""Which decoder makes crops of a stream: DALI, or a pool of threads on the CPU."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import torch

from common.errors import UserError
from pipeline.decoders.base import Decoder, StreamSpec
from pipeline.decoders.dali_install import check_installed
from pipeline.decoders.pool import OpenWindow, PoolDecoder
from pipeline.decoders.turbojpeg import JpegWindows
from pipeline.decoders.upload import Upload
from pipeline.reader import crop_raw

DecoderName = Literal["auto", "dali", "turbojpeg"]


def decoding_device(name: str) -> torch.device:
    """Where batches come out: a device as LoaderOptions names it.

    Raises:
        UserError: it is a GPU that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cpu":
        return device
    count = torch.cuda.device_count()
    index = device.index if device.index is not None else torch.cuda.current_device() if count else 0
    if index >= count:
        raise UserError(f"loader.device: found {name!r}, but torch sees {count} GPUs; allowed: cpu, auto, cuda:0 ...")
    return torch.device("cuda", index)


def open_decoders(
    specs: Mapping[str, StreamSpec], device: torch.device, num_threads: int, prefetch: int, name: DecoderName = "auto"
) -> dict[str, Decoder]:
    """The decoder of each stream by name; "auto" is DALI on a GPU and the pool on a CPU.

    Raw frames that are only cropped need no decoder: the pool copies them, whatever the name.

    Raises:
        UserError: DALI is needed, and cannot be used on `device`.
    """
    threads = ThreadPoolExecutor(num_threads, thread_name_prefix="crops")  # none of them starts before it is needed
    shares = dict(zip(specs, _share(num_threads, len(specs)), strict=True))
    upload = Upload(device) if device.type == "cuda" else None
    uses_dali = name == "dali" or (name == "auto" and device.type == "cuda")
    return {
        stream: _open_dali(spec, device, shares[stream], prefetch)
        if uses_dali and not (spec.raw and not spec.changes_pixels)
        else PoolDecoder(spec, threads, _window_of(spec), upload)
        for stream, spec in specs.items()
    }


def _window_of(spec: StreamSpec) -> OpenWindow:
    """How a frame of this codec is opened."""
    return crop_raw if spec.raw else JpegWindows(spec.channels, spec.frame_bytes)


def _open_dali(spec: StreamSpec, device: torch.device, num_threads: int, prefetch: int) -> Decoder:
    check_installed()
    from pipeline.decoders.dali import DaliDecoder  # here: importing DALI takes its time, and a CPU may do without

    return DaliDecoder(spec, device, num_threads, prefetch)


def _share(num_threads: int, num_streams: int) -> list[int]:
    """DALI's threads of each stream: RGB, the first, decodes about as long as u and v together."""
    return [max(1, (num_threads + num_streams - 1 - index) // num_streams) for index in range(num_streams)]
