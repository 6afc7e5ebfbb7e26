"""simplejpeg in a thread pool, by hand: whole frames, batches ahead, windows copied straight into the batch."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count

import numpy as np
import torch

from benchmarks.rivals.base import Clips, Rival, Task, window_of
from benchmarks.rivals.crops import copy_window, decode_simplejpeg
from pipeline.reader import Bytes
from pipeline.views import View


class Pending:
    """A batch that the threads work on; its memory."""

    def __init__(self, task: Task, pool: ThreadPoolExecutor, views: list[View]) -> None:
        self.views = views
        shape = (len(views), task.num_frames, task.crop_size, task.crop_size)
        self.rgb, self.flow = np.empty((*shape, 3), np.uint8), np.empty((2, *shape, 1), np.uint8)
        self.work: list[Future[None]] = []
        for clip, view in enumerate(views):
            targets = self.rgb[clip], self.flow[0, clip], self.flow[1, clip]
            for plane, (target, files) in enumerate(zip(targets, task.files(view), strict=True)):
                self.work.append(pool.submit(decode_plane, files, view, target, view.mirror and plane == 1))

    def result(self) -> Clips:
        """Wait for the threads."""
        for work in self.work:
            work.result()
        rgb, flow = torch.from_numpy(self.rgb).permute(0, 4, 1, 2, 3), torch.from_numpy(self.flow[..., 0])
        clips, windows = [view.clip for view in self.views], [window_of(view) for view in self.views]
        return Clips(rgb, flow.transpose(0, 1), torch.tensor(clips), torch.stack(windows))


def decode_plane(files: list[Bytes], view: View, target: Bytes, invert: bool) -> None:
    """Decode the T frames of a plane and copy their windows to target [T, H, W, C]."""
    for file, window in zip(files, target, strict=True):
        copy_window(view.window(decode_simplejpeg(file, target.shape[-1])), window, view.mirror)
    if invert:
        np.invert(target, out=target)


def batches(task: Task) -> Iterator[Clips]:
    """Batches for ever; `prefetch` of them are worked on ahead."""
    with ThreadPoolExecutor(task.num_threads) as pool:
        pending: deque[Pending] = deque()
        for epoch in count():
            order = np.random.default_rng(epoch).permutation(len(task)).tolist()
            for begin in range(0, len(order) - task.batch_size + 1, task.batch_size):
                views = [task.view(index) for index in order[begin : begin + task.batch_size]]
                pending.append(Pending(task, pool, views))
                if len(pending) > task.prefetch:
                    yield pending.popleft().result()


RIVAL = Rival("simplejpeg + threads", ("simplejpeg",), batches, False)
