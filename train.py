"""Training of a method: `python train.py -c configs/xnorm.yaml [--resume] [key=value ...]`."""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext

import torch

from common.cli import add_config, command_parser
from common.errors import exit_code_of
from configs import Config, load_config
from engine.initial_weights import describe, take_weights
from engine.loaders import match_classes, open_loader
from engine.model_cost import warn_if_memory_short
from engine.report.page import PAGE, write_page
from engine.runs.checkpoint import load_checkpoint
from engine.runs.run_folder import RunFolder
from engine.runs.trained import OtherRuns
from engine.runtime.agreement import require_agreement, shared_facts
from engine.runtime.precision_check import check_convolutions
from engine.runtime.session import InterruptionError, RunContext, open_session
from engine.runtime.world import local_size
from engine.scoring.evaluation import Evaluation
from engine.scoring.reports import summarize, write_reports
from engine.summary import describe_start, summarize_run
from engine.targets import add_actions, number_actions, require_labels, shape_losses
from engine.training.trainer import Trainer
from models import build_model
from pipeline.loader import ClipLoader
from preprocess.packing.stale import note_stale_labels

ALWAYS, AUTO = "always", "auto"  # of --resume
NOTES = """\
Output: runs/<name>/ with config.yaml, metrics.jsonl (one line per log), tensorboard/, best.pt (highest validation
accuracy), last.pt (to resume from), test/ (predictions and tables of best.pt), summary.json and
report.html, a page with all of that and the mistakes as moving clips.

Signals: a first SIGTERM or Ctrl-C, a SIGUSR1, SIGUSR2 or SIGHUP saves last.pt after the current step and ends the run;
a second SIGTERM or Ctrl-C ends it at once.

Resuming: --resume continues the run and leaves a finished one alone; of several seeds it starts those that have not
begun. --resume auto starts or continues, whatever is there.

Sweeps: seeds=[0,1,2] trains three runs, <name>-seed0 and so on.

Several processes: loader.batch_size counts the clips of all together. When one dies the job ends; torchrun
--max-restarts=N restarts it from last.pt.
"""
EXAMPLES = """\
python train.py -c configs/xnorm.yaml name=xnorm-seed1 seed=1 loader.batch_size=16
python train.py -c configs/xnorm.yaml seeds=[0,1,2]
python train.py -c configs/xnorm.yaml --resume
python train.py -c configs/xnorm.yaml --resume train.epochs=80
torchrun --nproc_per_node=8 train.py -c configs/xnorm.yaml
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parse(argv)

    def work() -> int:
        configs = load_config(arguments.config, arguments.overrides).each_seed()
        with open_session(configs[0], arguments.quiet) as session, ExitStack() as held:
            logs = [RunFolder(config, writes=session.world.is_main) for config in configs]

            def lock() -> None:
                for log in logs:
                    held.enter_context(log.locked())

            session.world.run_on_all_ranks(lock)
            splits = list(configs[0].data.annotations.splits())
            checkpoints = [path for log in logs for path in (log.last, log.previous)]
            require_agreement(session.world, lambda: shared_facts(configs, splits, checkpoints))
            begun = _begun(logs, arguments.resume, session.world.job.restarted)
            session.world.job.mark_started()
            for config, log, resume in zip(configs, logs, begun, strict=True):
                if len(configs) > 1:
                    session.display.print(f"{log.folder}:")
                _run_interruptible(config, session, log, resume)
        return 0

    return exit_code_of(work)


def _begun(logs: Sequence[RunFolder], resume: str | None, restarted: bool) -> list[bool]:
    """Return for each run whether it goes on, rather than starts; all are looked at before the first one writes.

    A restarted job goes on with what it began itself, however far that was; `--resume auto` with what anyone did.

    Raises:
        ConfigError: a run exists and must not, or none does and one must, or one began with another config.
    """
    begun = [(resume is not None or restarted) and log.exists for log in logs]
    if resume == ALWAYS and not restarted and not any(begun):
        begun = [True] * len(logs)  # so that the first of them says what is wrong
    for log, goes_on in zip(logs, begun, strict=True):
        log.check(goes_on)
    return begun


def _run_interruptible(config: Config, session: RunContext, log: RunFolder, resume: bool) -> None:
    try:
        run(config, session, log, resume)
    except InterruptionError as interrupted:
        raise InterruptionError(interrupted.number, f"{log.last} is saved, --resume goes on from it") from None


def run(config: Config, session: RunContext, log: RunFolder, resume: bool) -> None:
    """Train, validate, stop early, test the best."""
    if resume and log.finished:
        session.display.print(f"{log.folder}: finished already")
        return
    accumulate = config.train.accumulate
    at_once = session.world.local_batch_size(config.loader.batch_size, accumulate) // accumulate  # clips
    state = log.load() if resume else None
    torch.manual_seed(config.seed)
    # A resumed run has its weights in last.pt; the files of pretrained ones may be gone.
    model = build_model(**config.model.model_dump() | ({"pretrained": None} if state else {}))
    model = session.placement.move(model)
    check_convolutions(model, config, session)
    if session.world.is_main and session.placement.device.type == "cpu":
        warn_if_memory_short(model, config.clip, at_once, local_size())
    has_test = "test" in config.data.annotations.splits()
    with open_loader(config, "test", model, session) if has_test else nullcontext() as test_loader:
        with (
            open_loader(config, "train", model, session, train=True) as train_loader,
            open_loader(config, "val", model, session) as val_loader,
        ):
            loaders = {"train": train_loader, "val": val_loader}
            if test_loader is not None:
                loaders["test"] = test_loader
            splits = {name: loader.checksum for name, loader in loaders.items()}
            log.check_splits(splits, state)
            for loader in (val_loader, test_loader):
                if loader is not None:
                    match_classes(loader, train_loader.classes, session)
            number_actions(model, train_loader, val_loader)
            for loader in loaders.values():
                add_actions(loader, model.targets.actions)
            require_labels(model, train_loader, val_loader)
            shape_losses(model, train_loader, config.train)
            if session.world.is_main:
                note_stale_labels(config.data, splits, session.display)
            taken = take_weights(model, config.train.init_from or (), train_loader) if state is None else []
            trainer = Trainer(config, model, train_loader, val_loader, session, log)
            if state:
                trainer.load_state_dict(state)
            model.start(OtherRuns(session, model.targets, train_loader.classes))
            best_epoch = log.best_epoch() if state else 0
            session.world.barrier()  # all have looked at the folder before one writes there
            session.world.run_on_all_ranks(lambda: log.open(state, splits))
            for record in taken:
                log.log("init_from", {"epoch": 1, "step": 0, **record})
                session.display.print(describe(record))
            trainer.check_best(best_epoch)
            for line in describe_start(trainer, loaders):
                session.display.print(line)
            trainer.train()
        session.world.barrier()  # best.pt is complete
        test = None if test_loader is None else _test_best(trainer, test_loader, session, log)
    log.summarize(summarize_run(trainer, test, loaders))
    if session.world.is_main:
        write_page(log.folder / PAGE, config, log.folder, None if test is None else log.folder / "test", "test")
    session.display.print(f"{log.folder}: best val {trainer.monitor.name} {trainer.best_value:.3f}, all in {PAGE}")


def _test_best(trainer: Trainer, loader: ClipLoader, session: RunContext, log: RunFolder) -> Evaluation:
    """Score the test split with the best weights."""
    trainer.model.load_state_dict(load_checkpoint(log.best)["model"])
    test = trainer.score(loader, "test")
    numbers = summarize(test)
    log.log("test", {"epoch": trainer.counters.best_epoch, "step": trainer.counters.step, **numbers})
    if session.world.is_main:
        write_reports(test, log.folder / "test")
    top1 = numbers["top1"]
    said = "test clips have no labels: predictions alone" if top1 is None else f"test accuracy {top1:.3f}"
    session.display.print(f"{said}, of the weights of epoch {trainer.counters.best_epoch}")
    return test


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(
        "train.py",
        "Train a method, validate after each epoch, stop early, and test the best weights.",
        EXAMPLES,
        notes=NOTES,
    )
    add_config(parser, default=None, required=True)
    parser.add_argument(
        "--resume",
        nargs="?",
        const=ALWAYS,
        metavar=AUTO,
        help=f"continue the run in runs/<name> from its last.pt; {AUTO}: start it if there is none (default: start it)",
    )
    arguments = parser.parse_intermixed_args(argv)
    if arguments.resume not in (None, ALWAYS, AUTO):  # `--resume key=value`: an override, of which load_config() judges
        arguments.overrides.insert(0, arguments.resume)
        arguments.resume = ALWAYS
    return arguments


if __name__ == "__main__":
    sys.exit(main())
