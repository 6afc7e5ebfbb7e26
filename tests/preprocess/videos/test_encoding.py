"""What is stored of frames: the same bytes on any number of threads, in order, and work that is shared out."""

import threading

from preprocess.videos.decode import Frame
from preprocess.videos.encoding import ExtractOptions, encode_frames, map_in_order
from tests.movies import moving


def test_bytes_do_not_depend_on_the_number_of_threads() -> None:
    frames = [Frame(pixels) for pixels in moving([(3, 1), (0, -2), (1, 1)] * 5)]
    options = ExtractOptions(stride=2, dilation=3)
    alone = list(encode_frames(frames, options))
    assert list(encode_frames(frames, options, num_threads=2)) == alone
    assert list(encode_frames(frames, options, num_threads=5)) == alone
    assert [encoded.flow is not None for encoded in alone[:6]] == [False, False, False, True, False, True]


def test_flow_is_computed_on_all_threads_at_once() -> None:
    together = threading.Barrier(3, timeout=30)  # breaks unless three meet

    def meet(item: int) -> int:
        together.wait()
        return item * item

    assert list(map_in_order(meet, range(9), 3)) == [n * n for n in range(9)]


def test_only_a_few_frames_are_ahead() -> None:
    taken = []

    def items():
        for n in range(100):
            taken.append(n)
            yield n

    results = map_in_order(lambda n: n, items(), 2)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert len(taken) <= 10 + 2 * 2 + 1


def test_a_jpeg_that_comes_with_a_frame_is_kept() -> None:
    first, second = moving([(1, 0)])
    encoded = list(encode_frames([Frame(first, b"its own"), Frame(second)], ExtractOptions()))
    assert encoded[0].rgb == b"its own"
    assert encoded[1].rgb.startswith(b"\xff\xd8")
