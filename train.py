"""Trains a method as its config says: `python train.py -c configs/xnorm.yaml [--resume] [key=value ...]`."""

if __name__ == "__main__":
    from configs.startup import begin

    begin()

import argparse
import sys
from collections.abc import Sequence

import torch

from configs import Config, load_config
from configs.command import add_config, command_parser
from configs.errors import exit_code_of
from engine.agreement import require_agreement, shared_facts
from engine.checkpoint import load_checkpoint
from engine.distributed import local_size
from engine.evaluation import Evaluation
from engine.interrupt import InterruptionError
from engine.loaders import check_split, open_loader
from engine.memory import warn_of_shortage
from engine.reports import summarize, write_reports
from engine.runlog import RunLog
from engine.session import Session, open_session
from engine.summary import summarize_run
from engine.trainer import Trainer
from models import build_model

NOTES = """\
Writes runs/<name>/: config.yaml, metrics.jsonl (a line a log), tensorboard/, best.pt (highest validation accuracy),
last.pt (to resume from), test/ (the best one's predictions and tables), summary.json. A first SIGTERM or Ctrl-C saves
last.pt after the step under way and ends the run; a second one ends it at once. --resume goes on, and leaves alone
what is finished; of several seeds it starts those that have not begun. seeds=[0,1,2] trains three runs:
<name>-seed0, <name>-seed1, <name>-seed2. With several processes, loader.batch_size is that of all together;
when one of them dies the job ends, and torchrun --max-restarts=N lets it go on from last.pt by itself.
"""
EXAMPLES = """\
python train.py -c configs/xnorm.yaml name=xnorm-seed1 seed=1 loader.batch_size=16
python train.py -c configs/xnorm.yaml seeds=[0,1,2]
python train.py -c configs/xnorm.yaml --resume
torchrun --nproc_per_node=8 train.py -c configs/xnorm.yaml
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parse(argv)

    def work() -> int:
        configs = load_config(arguments.config, arguments.overrides).each_seed()
        with open_session(configs[0], arguments.quiet) as session:
            logs = [RunLog(config, writes=session.world.is_main) for config in configs]
            splits = list(configs[0].data.annotations.splits())
            checkpoints = [log.last for log in logs]
            require_agreement(session.world, lambda: shared_facts(configs, splits, checkpoints))
            begun = _begun(logs, arguments.resume, session.world.job.restarted)
            session.world.job.note_begun()
            for config, log, resume in zip(configs, logs, begun, strict=True):
                if len(configs) > 1:
                    session.display.line(f"{log.folder}:")
                _run_interruptible(config, session, log, resume)
        return 0

    return exit_code_of(work)


def _begun(logs: Sequence[RunLog], resume: bool, restarted: bool) -> list[bool]:
    """Return for each run whether it goes on, rather than starts; all are looked at before the first one writes.

    A restarted job goes on with what it began itself, however far that was.

    Raises:
        ConfigError: a run exists and must not, or none does and one must, or one began with another config.
    """
    begun = [(resume or restarted) and log.exists for log in logs]
    if resume and not restarted and not any(begun):
        begun = [True] * len(logs)  # so that the first of them says what is wrong
    for log, goes_on in zip(logs, begun, strict=True):
        log.check(goes_on)
    return begun


def _run_interruptible(config: Config, session: Session, log: RunLog, resume: bool) -> None:
    try:
        run(config, session, log, resume)
    except InterruptionError as interrupted:
        raise InterruptionError(interrupted.number, f"{log.last} is saved, --resume goes on from it") from None


def run(config: Config, session: Session, log: RunLog, resume: bool) -> None:
    """Train, validate, stop early, test the best."""
    for split in ("train", "val"):
        check_split(config, split)
    state = log.check(resume)
    if resume and log.finished:
        session.display.line(f"{log.folder}: finished already")
        return
    torch.manual_seed(config.seed)
    # A resumed run has its weights in last.pt; the files of pretrained ones may be gone.
    model = build_model(**config.model.model_dump() | ({"pretrained": None} if state else {}))
    model = session.placement.place(model)
    if session.world.is_main and session.placement.device.type == "cpu":
        warn_of_shortage(model, config.clip, session.world.share(config.loader.batch_size), local_size())
    with (
        open_loader(config, "train", model, session, train=True) as train_loader,
        open_loader(config, "val", model, session) as val_loader,
    ):
        trainer = Trainer(config, model, train_loader, val_loader, session, log)
        if state:
            trainer.load_state_dict(state)
        session.world.barrier()  # all have looked at the folder before one writes there
        session.world.together(lambda: log.open(state))
        trainer.train()
    test = _test_best(config, trainer, session, log)
    log.summarize(summarize_run(trainer, test))
    session.display.line(f"{log.folder}: best val accuracy {trainer.counters.best_accuracy:.3f}")


def _test_best(config: Config, trainer: Trainer, session: Session, log: RunLog) -> Evaluation | None:
    """Score the test split, where there is one, with the best weights."""
    session.world.barrier()  # best.pt is complete
    if "test" not in config.data.annotations.splits():
        return None
    trainer.model.load_state_dict(load_checkpoint(log.best)["model"])
    with open_loader(config, "test", trainer.model, session) as loader:
        test = trainer.score(loader, "test")
    log.log("test", {"epoch": trainer.counters.best_epoch, "step": trainer.counters.step, **summarize(test)})
    if session.world.is_main:
        write_reports(test, log.folder / "test")
    session.display.line(
        f"test accuracy {test.metrics.top1:.3f}, of the weights of epoch {trainer.counters.best_epoch}"
    )
    return test


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(
        "train.py",
        "Train a method, validate after each epoch, stop early, and test the best weights.",
        EXAMPLES,
        notes=NOTES,
    )
    add_config(parser, default=None, required=True)
    parser.add_argument("--resume", action="store_true", help="go on with the run that runs/<name>/last.pt is of")
    return parser.parse_intermixed_args(argv)


if __name__ == "__main__":
    sys.exit(main())
