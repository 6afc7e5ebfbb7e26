"""Agreement of all ranks on config, packed splits and checkpoint, checked once at the start."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from crc32c import crc32c

from common.errors import ConfigError, listed, message
from configs.schema import Config
from engine.runs.checkpoint import changed_values, plain_config
from engine.runtime.world import World
from pipeline.format.index import read_index

# Where things lie and what a machine can do, which may differ between machines; what is in the files may not.
OF_A_MACHINE = (
    *("runs", "data.frames", "data.shards", "data.annotations", "data.workers", "model.pretrained", "train.init_from"),
    *("loader.num_threads", "loader.prefetch"),
)
BLOCK = 2**22  # bytes
MOST_LISTED = 10
Facts = dict[str, object]


def shared_facts(configs: Sequence[Config], splits: Iterable[str], checkpoints: Iterable[Path]) -> Facts:
    """Facts that must be equal on every rank: name -> value.

    Raises:
        UserError: a split is not packed, or a checkpoint cannot be read.
    """
    config = configs[0]
    facts: Facts = {key: value for key, value, _ in changed_values(plain_config(config), {}, OF_A_MACHINE)}
    facts["seeds"] = [each.seed for each in configs]
    facts |= {
        f"the packed {split} split": f"checksum {read_index(config.data.shards / split).checksum}" for split in splits
    }
    return facts | {f"the file {path.name}": file_checksum(path) for path in checkpoints}


def require_agreement(world: World, find: Callable[[], Facts]) -> None:
    """Compare what `find` returns over all ranks; a single process is not compared.

    Raises:
        ConfigError: it differs, with the ranks and both values, or `find` failed on some ranks.
        Exception: what `find` raised, where it raised on all ranks.
    """
    if world.size == 1:
        return
    failure: Exception | None = None
    try:
        facts = find()
    except Exception as error:  # the other ranks must not wait for this one
        failure, facts = error, {"": message(error) or repr(error)}
    found: list[Facts] = [json.loads(text) for text in world.gather_texts(json.dumps(facts, default=str))]
    failed = {rank: facts[""] for rank, facts in enumerate(found) if "" in facts}
    if failure and len(failed) == world.size:
        raise failure
    problems = [f"rank {rank}: {reason}" for rank, reason in failed.items()] or list(_differences(found))
    if problems:
        raise ConfigError(
            f"the processes of this run do not share what they must: {listed(problems, MOST_LISTED, '; ')}; "
            "give every machine the same config, shards and checkpoint"
        )


def _differences(found: Sequence[Facts]) -> Iterable[str]:
    first = found[0]
    for rank, facts in enumerate(found[1:], start=1):
        for key in {**first, **facts}:
            if facts.get(key) != first.get(key):
                yield f"{key}: rank {rank} has {facts.get(key)}, rank 0 has {first.get(key)}"


def file_checksum(path: Path) -> str:
    """The CRC-32C of a file's bytes; a file that is not there is a fact, too."""
    checksum = 0
    try:
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                checksum = crc32c(block, checksum)
    except FileNotFoundError:
        return "no such file"
    return f"checksum {checksum}"
