"""Pool decoder: threads that decode, resize and mirror a window into the batch while it is hot."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait

from torch import Tensor

from pipeline.batch import BufferPool, copy_frames, inverts, to_ncthw
from pipeline.decoders.augment import Augment
from pipeline.decoders.base import FrameError, StreamSpec
from pipeline.decoders.upload import Upload
from pipeline.reader import Bytes, EncodedFrame
from pipeline.views import View

# The window of a frame, [side, side, C], valid until the thread's next one.
OpenWindow = Callable[[EncodedFrame, View], Bytes]


class PoolDecoder:
    """Makes one stream of batches on the CPU; see pipeline.decoders.base.Decoder.

    A task is a plane of a clip. Frame by frame, what has just been read is still in the core's cache when it is
    decoded, and the window when it is copied into the batch. `open_window` is what differs between codecs;
    its ValueError says what is wrong with a frame. With an `upload` batches come out on its device.
    """

    def __init__(
        self, spec: StreamSpec, threads: Executor, open_window: OpenWindow, upload: Upload | None = None
    ) -> None:
        self._spec, self._threads = spec, threads
        self._open_window, self._upload = open_window, upload
        self._buffers = BufferPool()
        self._sent: deque[tuple[Tensor, list[Future[None]]]] = deque()

    def send(self, encoded: Sequence[EncodedFrame], views: Sequence[View]) -> None:
        """Start on the views' windows; see Decoder for their order."""
        spec, num_frames = self._spec, len(views[0].frames)
        shape = (len(views), spec.num_planes, num_frames, spec.crop_size, spec.crop_size, spec.channels)
        made = self._buffers.take(shape)
        out = made if self._upload is None else self._upload.empty(shape)
        tasks = []
        for number in range(spec.num_planes * len(views)):
            plane, clip = divmod(number, len(views))
            windows = self._windows(encoded, range(number * num_frames, (number + 1) * num_frames), views[clip])
            here = (clip, plane)
            tasks.append(self._threads.submit(self._make, windows, views[clip], plane, made[here], out[here]))
        self._sent.append((out, tasks))

    def receive(self) -> Tensor:
        """The stream of the batch that was sent first; see Decoder for the errors."""
        out, tasks = self._sent.popleft()
        wait(tasks)
        for task in tasks:
            task.result()
        return to_ncthw(out if self._upload is None else self._upload.hand_over(out))

    def discard(self) -> None:
        """Let go of the batch that was sent first."""
        _, tasks = self._sent.popleft()
        for task in tasks:
            task.cancel()
        wait(tasks)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _windows(self, encoded: Sequence[EncodedFrame], indices: range, view: View) -> Iterator[Bytes]:
        augment = Augment(self._spec, view)
        for index in indices:
            try:
                yield augment(self._open_window(encoded[index], view))
            except ValueError as error:
                raise FrameError(error, index) from None

    def _make(self, windows: Iterator[Bytes], view: View, plane: int, made: Tensor, out: Tensor) -> None:
        invert = view.mirror and inverts(plane, self._spec.num_planes)
        copy_frames(windows, made.numpy(), mirror=view.mirror, invert=invert)
        if self._upload is not None:
            self._upload.copy(made, out)
