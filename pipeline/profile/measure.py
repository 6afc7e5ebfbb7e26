"""Measuring loop: interleaved rounds of several candidates, and the machine they ran on."""

import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from common.display import Display
from pipeline.decoders.dali_install import installed_builds


def describe_machine() -> dict[str, str]:
    """Names and versions of what a measurement depends on."""
    builds = [f"{number} ({name.removeprefix('nvidia-dali-')})" for name, number in installed_builds().items()]
    return {
        "cpu": f"{_processor()}, {os.cpu_count()} cores",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "dali": ", ".join(builds) or "not installed",
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


WARMUP = 3  # batches per round that are not counted
IDLE, LOOKED, PATIENCE = 0.2, 0.1, 10.0  # cores; seconds between two looks; seconds
Candidate = Iterator[int]  # an endless way of making batches: yields the number of clips of each, as it is ready


@dataclass
class Timings:
    """What one candidate took, round by round.

    Attributes:
        cpu_ms: CPU milliseconds per clip, of this process, its threads and its children.
        clips_per_s: clips per second of wall time.
        waits_ms: milliseconds of wall time from asking for a batch to having it, of all batches of all rounds.
    """

    cpu_ms: list[float] = field(default_factory=list)
    clips_per_s: list[float] = field(default_factory=list)
    waits_ms: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Medians over the rounds with their ranges, and percentiles over the batches."""
        ranked = sorted(self.waits_ms)
        return {
            **summary("cpu_ms_per_clip", self.cpu_ms),
            **summary("clips_per_s", self.clips_per_s),
            **{f"wait_ms_p{p}": ranked[min(len(ranked) - 1, len(ranked) * p // 100)] for p in (50, 95, 99)},
        }


def interleave(
    candidates: Mapping[str, Candidate], *, rounds: int, batches: int, warmup: int
) -> Iterator[tuple[str, Timings]]:
    """Measure every candidate once per round: a machine whose speed drifts treats all alike.

    A round takes `batches` batches of each candidate after `warmup` that are not counted. After each turn its name and
    its rounds so far are yielded, so that dict() of it has the results.
    """
    results = {name: Timings() for name in candidates}
    for _ in range(rounds):
        for name, candidate in candidates.items():
            _measure(candidate, batches, warmup, results[name])
            yield name, results[name]


def summary(name: str, values: Sequence[float]) -> dict[str, float]:
    """The median of the rounds under `name`, their range as `<name>_min` and `<name>_max`."""
    return {name: statistics.median(values), f"{name}_min": min(values), f"{name}_max": max(values)}


def spread_of_rounds(values: Sequence[float]) -> float:
    """The noise of a measurement: the range of its rounds over their median."""
    return (max(values) - min(values)) / statistics.median(values)


def wait_for_idle() -> None:
    """Wait until this process and its workers rest: what a candidate makes ahead belongs to no other's time."""
    until, before = time.perf_counter() + PATIENCE, cpu_seconds()
    while time.perf_counter() < until:
        time.sleep(LOOKED)
        if (now := cpu_seconds()) - before < IDLE * LOOKED:
            return
        before = now


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """`values` over `base`, round by round."""
    return [a / b for a, b in zip(values, base, strict=True)]


def measure_shown(
    candidates: Mapping[str, Candidate], rounds: int, batches: int, display: Display, ahead: int = 0
) -> dict[str, Timings]:
    """interleave() with a progress bar; `ahead`: batches that a candidate may have ready when its turn begins."""
    display.begin("measuring", rounds * len(candidates), unit="runs")
    results = {}
    for name, result in interleave(candidates, rounds=rounds, batches=batches, warmup=WARMUP + ahead):
        results[name] = result
        display.advance()
        display.update(f"the last one: {name}")
    return results


def _measure(running: Iterator[int], batches: int, warmup: int, into: Timings) -> None:
    wait_for_idle()
    for _ in range(warmup):
        next(running)
    clips, cpu, begin = 0, cpu_seconds(), time.perf_counter()
    for _ in range(batches):
        asked = time.perf_counter()
        clips += next(running)
        into.waits_ms.append((time.perf_counter() - asked) * 1e3)
    into.clips_per_s.append(clips / (time.perf_counter() - begin))
    into.cpu_ms.append((cpu_seconds() - cpu) / clips * 1e3)


def cpu_seconds() -> float:
    """CPU time so far of this process, all its threads, and its living worker processes."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime + sum(_process_seconds(child.pid) for child in multiprocessing.active_children())


def _process_seconds(pid: int | None) -> float:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        values = file.read().rsplit(")", 1)[1].split()
    ticks: int = os.sysconf("SC_CLK_TCK")
    return (int(values[11]) + int(values[12])) / ticks  # utime and stime, fields 14 and 15 of proc(5)
