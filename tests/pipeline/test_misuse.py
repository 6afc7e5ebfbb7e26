"""A loader used where it cannot work says so: closed, in a forked process, by two threads, by an iterator of before."""

import multiprocessing
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from common.errors import UserError
from pipeline.format.index import ShardError
from pipeline.loader import ClipLoader

SMALL = {"batch_size": 2, "num_frames": 16, "crop_size": 48}


def test_a_closed_loader_says_so(any_split: Path) -> None:
    with ClipLoader(any_split, **SMALL) as loader:
        batches = iter(loader)
        next(batches)
    for use in (lambda: next(batches), lambda: next(iter(loader)), lambda: loader.load([0], 0)):
        with pytest.raises(UserError, match="this ClipLoader is closed; open another one"):
            use()
    loader.close()  # twice is harmless
    assert loader.state_dict()["epoch"] >= 0


def test_a_forked_child_is_told_and_can_end(any_split: Path) -> None:
    with ClipLoader(any_split, **SMALL) as loader:
        next(iter(loader))
        context = multiprocessing.get_context("fork")
        here, there = context.Pipe()
        child = context.Process(target=use_in_child, args=(loader, there))
        child.start()
        assert here.poll(30)
        assert f"was opened by process {os.getpid()}" in here.recv()
        child.join(30)
        assert child.exitcode == 0
        next(iter(loader))  # the parent goes on


def use_in_child(loader: ClipLoader, answer: Connection) -> None:
    try:
        with loader:
            next(iter(loader))
    except UserError as error:
        answer.send(str(error))


def test_two_threads_at_once_are_told(any_split: Path) -> None:
    with ClipLoader(any_split, **SMALL) as loader:
        inside, go_on = threading.Event(), threading.Event()
        decoder = loader.decoders["rgb"]
        receive = decoder.receive

        def wait(*arguments: str) -> object:
            inside.set()
            assert go_on.wait(30)
            return receive(*arguments)

        decoder.receive = wait  # type: ignore[method-assign,assignment]
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(lambda: next(iter(loader)).clips.tolist())
            assert inside.wait(30)
            with pytest.raises(UserError, match="two threads ask this ClipLoader for batches at once"):
                loader.load([0], 0)
            go_on.set()
            assert len(first.result()) == 2  # the one that was there first has its batch
        assert len(loader.load([0], 0)) == 1  # and then the other may ask


def test_an_iterator_of_before_does_not_go_on_in_silence(split: Path) -> None:
    with ClipLoader(split, **SMALL) as loader:
        before = iter(loader)
        next(before)
        later = list(islice(loader, 2))
        with pytest.raises(UserError, match=r"left epoch 0 since, by a later iter\(\)"):
            next(before)
        assert len(later) == 2
        assert loader.state_dict()["epoch"] == 1


def test_a_shard_cut_short_before_it_is_mapped_is_a_message(any_split: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(any_split, tmp_path / "train"))
    shard = copy / "00000.tfrecord"
    whole = shard.stat().st_size
    with ClipLoader(copy, **SMALL) as loader:
        os.truncate(shard, 5000)
        with pytest.raises(
            ShardError, match=rf"00000\.tfrecord: has 5000 bytes, the index says {whole}: it was cut short"
        ):
            next(iter(loader))
