"""What OpenMP's threads cost in training, spinning or passive while they wait, alone and beside other work.

    python -m benchmarks.training.threads [--rounds 3] [--seconds 2] [--busy 2]

Each row is a process that trains X-Norm (a quarter of its width, 2 clips of 8 x 64 x 64) on random clips; rounds are
interleaved, first with nothing else, then with --busy processes that use a core each. A minute where nothing else runs;
beside much other work the spinning row's steps take half a minute each.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from benchmarks.command import argument_parser
from common.cores import usable_cores
from pipeline.profile.report import markdown_table, spread

Rates = dict[str, list[tuple[float, float]]]  # by setting, a round each: clips/s, CPU ms per clip

WORK = "from benchmarks.training.threads import train_when_told; train_when_told()"


def settings(cores: int) -> dict[str, dict[str, str]]:
    """The environment of each row."""
    threads = {"OMP_NUM_THREADS": str(cores)}
    return {
        f"{cores} threads, spinning (OpenMP's default)": threads,
        f"**{cores} threads, passive (the commands)**": {**threads, "OMP_WAIT_POLICY": "PASSIVE"},
        "1 thread": {"OMP_NUM_THREADS": "1"},
    }


def train_when_told() -> None:
    """For each line of stdin, a number of seconds, train for so long; answer with clips/s and CPU ms per clip."""
    import torch

    from models import build_model

    torch.manual_seed(0)
    model = build_model("xnorm", width=0.25).to(memory_format=torch.channels_last_3d).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    rgb, flow = (torch.randint(0, 256, (2, channels, 8, 64, 64), dtype=torch.uint8) for channels in (3, 2))
    labels = torch.zeros(2, dtype=torch.int64)

    def step() -> None:
        optimizer.zero_grad()
        sum(model.losses(model(rgb, flow), labels).values()).backward()  # type: ignore[union-attr]
        optimizer.step()

    step()
    print("ready", flush=True)
    for line in sys.stdin:
        clips, began, cpu = 0, time.perf_counter(), time.process_time()
        while (seconds := time.perf_counter() - began) < float(line):
            step()
            clips += len(labels)
        print(clips / seconds, (time.process_time() - cpu) * 1e3 / clips, flush=True)


@contextmanager
def trainer(environment: Mapping[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """A process that trains when it is told."""
    free = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "KMP_", "GOMP_", "MKL_"))}
    command = [sys.executable, "-c", WORK]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env={**free, **environment}, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()  # it is ready
        yield process
        process.stdin.close()  # which ends it


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Have other processes use a core each."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(running: Mapping[str, "subprocess.Popen[str]"], rounds: int, seconds: float) -> Rates:
    """Let each process train in turn, `rounds` times."""
    found: Rates = {name: [] for name in running}
    for _ in range(rounds):
        for name, process in running.items():
            assert process.stdin is not None
            assert process.stdout is not None
            print(seconds, file=process.stdin, flush=True)
            rate, cpu = map(float, process.stdout.readline().split())
            found[name].append((rate, cpu))
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argument_parser(__doc__, rounds=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn (default: %(default)s)")
    parser.add_argument("--busy", type=int, help="processes beside it (default: as many as cores)")
    arguments = parser.parse_args()
    cores = usable_cores()
    beside = cores if arguments.busy is None else arguments.busy
    print(f"{cores} cores; load before: {os.getloadavg()[0]:.1f}; medians of {arguments.rounds} rounds, their range\n")
    with ExitStack() as held:
        running = {name: held.enter_context(trainer(wanted)) for name, wanted in settings(cores).items()}
        alone = measure(running, arguments.rounds, arguments.seconds)
        with busy(beside):
            shared = measure(running, arguments.rounds, arguments.seconds)
    columns = ["", "alone: clips/s", "CPU ms per clip", f"beside {beside} busy processes: clips/s", "CPU ms per clip"]
    rows = [
        [name, *(spread([turn[i] for turn in found[name]], ".1f") for found in (alone, shared) for i in (0, 1))]
        for name in running
    ]
    print(markdown_table(columns, rows))


if __name__ == "__main__":
    main()
