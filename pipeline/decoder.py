"""Which decoder makes crops of a stream: DALI, or for raw frames that are only cropped, a copy."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import torch

from pipeline.crops import CropCopier
from pipeline.dali import check_installed
from pipeline.decoders.base import Decoder, StreamSpec


def open_decoders(
    specs: Mapping[str, StreamSpec], device: torch.device, num_threads: int, prefetch: int
) -> dict[str, Decoder]:
    """For each stream the decoder that does what its spec says with the least work.

    Raises:
        UserError: DALI is needed, and cannot be used on `device`.
    """
    threads = ThreadPoolExecutor(num_threads, thread_name_prefix="crops")  # none of them starts before it is needed
    shares = dict(zip(specs, _share(num_threads, len(specs)), strict=True))
    return {
        stream: CropCopier(spec.num_planes, spec.channels, device, threads)
        if spec.raw and not spec.changes_pixels
        else _open_dali(spec, device, shares[stream], prefetch)
        for stream, spec in specs.items()
    }


def _open_dali(spec: StreamSpec, device: torch.device, num_threads: int, prefetch: int) -> Decoder:
    check_installed()
    from pipeline.graph import StreamDecoder  # here: importing DALI takes a moment, and a CPU may do without

    return StreamDecoder(spec, device, num_threads, prefetch)


def _share(num_threads: int, num_streams: int) -> list[int]:
    """DALI's threads of each stream: RGB, the first, decodes about as long as u and v together."""
    return [max(1, (num_threads + num_streams - 1 - index) // num_streams) for index in range(num_streams)]
