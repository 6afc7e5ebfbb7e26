"""The DALI graph of one stream: JPEGs and windows in, uint8 crops out, on a CPU or a GPU alike."""

from dataclasses import dataclass
from typing import Any

from nvidia.dali import fn, tfrecord, types
from nvidia.dali.pipeline import Pipeline

JPEG, ANCHOR, SHAPE = "jpeg", "anchor", "shape"  # inputs of every graph
COLOR = ("brightness", "contrast", "saturation")  # inputs of a graph with colour jitter
GAIN = "gain"  # input of a graph that rescales flow values
ZERO_MOTION = 127.5  # the level of no motion in a flow image


@dataclass(frozen=True)
class GraphOptions:
    """What the graph of one stream does.

    Attributes:
        gray: decode to one channel (flow) instead of three (RGB).
        max_frames: the largest number of frames a batch.
        frame_bytes: bytes of the largest decoded frame, height x width x channels.
        crop_size: height and width of what comes out, pixels.
        resize: whether windows may differ from crop_size.
        color: whether brightness, contrast and saturation are changed, by factors a frame.
        gain: whether values are scaled about zero motion, by a factor a frame.
    """

    gray: bool
    max_frames: int
    frame_bytes: int
    crop_size: int
    resize: bool = False
    color: bool = False
    gain: bool = False


def define_graph(options: GraphOptions, *, device_id: int | None, num_threads: int, prefetch: int) -> Pipeline:
    """Define, without building, the pipeline of one stream; its one output is uint8, crop_size x crop_size x C.

    All frames of all clips of a batch are the samples of one DALI batch, so that one decoder does them all. Only the
    window of each frame is decoded (what a JPEG allows of that). `device_id` None is the CPU.
    """
    pipe = Pipeline(
        batch_size=options.max_frames,
        num_threads=num_threads,
        device_id=device_id,
        prefetch_queue_depth=prefetch,
        seed=0,  # nothing random happens here: every decision is fed in
    )
    with pipe:
        jpeg = fn.external_source(name=JPEG, no_copy=True, dtype=types.UINT8, ndim=1)
        anchor = fn.external_source(name=ANCHOR, dtype=types.INT32, ndim=1)
        shape = fn.external_source(name=SHAPE, dtype=types.INT32, ndim=1)
        images = _decode(jpeg, anchor, shape, options, "cpu" if device_id is None else "mixed")
        if options.resize:
            images = fn.resize(
                images, size=[options.crop_size, options.crop_size], interp_type=types.INTERP_LINEAR, antialias=True
            )
        if options.color:
            images = fn.color_twist(images, **{name: _factor(name) for name in COLOR})
        if options.gain:
            images = fn.brightness_contrast(images, contrast=_factor(GAIN), contrast_center=ZERO_MOTION)
        pipe.set_outputs(images)
    return pipe


def _decode(jpeg: Any, anchor: Any, shape: Any, options: GraphOptions, device: str) -> Any:
    return fn.decoders.image_slice(
        jpeg,
        anchor,
        shape,
        device=device,
        axes=[0, 1],
        normalized_anchor=False,
        normalized_shape=False,
        output_type=types.GRAY if options.gray else types.RGB,
        # The defaults reserve 16 MiB on the device and 8 MiB of pinned memory a thread, for photographs.
        device_memory_padding=options.frame_bytes,
        host_memory_padding=options.frame_bytes,
        jpeg_fancy_upsampling=True,  # what the CPU's decoder does anyway, so that a GPU gives the same chroma
    )


def _factor(name: str) -> Any:
    return fn.external_source(name=name, dtype=types.FLOAT, ndim=0)


def define_tfrecord_graph(
    shards: list[str], indices: list[str], *, batch_size: int, num_frames: int, crop_size: int, num_threads: int
) -> Pipeline:
    """The same clips by DALI's own reader, to compare with: a decoder a frame, fn.stack, float output.

    Its outputs are rgb [B, T, 3, H, W] and flow [B, T, 2, H, W], float32 in [-1, 1].
    """
    names = [[f"{column}/{frame:03d}" for frame in range(num_frames)] for column in ("rgb", "flow_u", "flow_v")]
    pipe = Pipeline(batch_size=batch_size, num_threads=num_threads, device_id=None, seed=0, prefetch_queue_depth=2)
    with pipe:
        records: Any = fn.readers.tfrecord(
            path=shards,
            index_path=indices,
            features={name: tfrecord.FixedLenFeature([], tfrecord.string, "") for row in names for name in row},
            random_shuffle=True,
        )
        window = {
            "crop": [crop_size, crop_size],
            **{key: fn.random.uniform(range=[0.0, 1.0]) for key in ("crop_pos_x", "crop_pos_y")},
        }
        mirror = fn.random.coin_flip()
        rgb, u, v = (
            fn.stack(*[_decode_frame(records[name], window, gray=row != 0) for name in names[row]], axis_name="F")
            for row in range(3)
        )
        scale = {"std": [ZERO_MOTION], "mirror": mirror, "output_layout": "FCHW", "dtype": types.FLOAT}
        u, v = (fn.crop_mirror_normalize(plane, mean=[ZERO_MOTION], **scale) for plane in (u, v))
        u = u * (1 - 2 * mirror)  # u is inverted by a mirror
        rgb = fn.crop_mirror_normalize(rgb, mean=[ZERO_MOTION], **scale)
        pipe.set_outputs(rgb, fn.cat(u, v, axis=1))
    return pipe


def _decode_frame(jpeg: Any, window: dict[str, Any], *, gray: bool) -> Any:
    return fn.decoders.image_crop(jpeg, output_type=types.GRAY if gray else types.RGB, **window)
