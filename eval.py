"""Scores a split with a checkpoint, fuses scored runs (`--fuse`), or puts finished ones side by side (`--compare`)."""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from common.cli import add_config, at_least, command_parser, path_type
from common.errors import exit_code_of
from configs import Config, ConfigError, load_config
from engine.loaders import check_split, open_loader
from engine.report.page import page_of, write_page
from engine.runs import ensemble
from engine.runs.checkpoint import BEST, find_checkpoint
from engine.runs.comparison import __main__ as comparison
from engine.runs.provenance import source_differences, trained_actions, trained_classes
from engine.runs.records import CONFIG
from engine.runs.trained import configured_model, read_state
from engine.runtime.agreement import require_agreement, shared_facts
from engine.runtime.precision_check import check_convolutions
from engine.runtime.session import RunContext, open_session
from engine.scoring.corruption import Corruption, check_streams, parse_corruptions
from engine.scoring.epic import Submission, check_exportable
from engine.scoring.evaluation import Evaluation, evaluate
from engine.scoring.reports import metrics_tables, scored_checkpoint, write_reports
from engine.scoring.robustness import CORRUPT, robustness_table, score_faults, write_robustness
from engine.scoring.subsets import find_subsets
from pipeline.views import SINGLE_VIEW, MultiView
from preprocess.packing.stale import note_stale_labels

OTHERS = {"--compare": comparison.main, "--fuse": ensemble.main}  # what is done with runs that are scored already

NOTES = """\
RUN is a run's folder, whose best.pt is scored, or a checkpoint; the config is the config.yaml beside it. --checkpoint
names the file alone, -c another config.

Writes metrics.json, predictions.csv (one line per clip; scores are the softmax of the logits), per_class.csv,
confusion.csv and confusion.png. Checkpoints of the published code, {"model": state_dict}, are read, too. With several
processes the predictions are the same.

Output folder: beside the checkpoint, named after the split (test for best.pt, test-last for last.pt). Scores of another
checkpoint in a folder that -o names are replaced, with a note.

Multi-view testing: --views 10 --crops 3 averages the logits of 30 views per clip, ten temporal by three crops along the
longer side. It takes about 30 times as long and writes into test-10x3.

EPIC-KITCHENS-100 challenge: --export epic adds epic.pt, the results file that its evaluate.py reads, -inf where the
model has no class; labels must be EPIC's verb_class and noun_class. Where verbs and nouns are predicted
(model.targets), it adds epic-submission.zip for the server, too; else noun scores are all 0, so its noun and action
accuracies mean nothing.

Faults: --corrupt scores under faults of a stream and without, as a curve over their severity, into test-corrupt:
corruption.json and corruption.png. missing: the level of no motion, or mid grey, so that flow:missing is what RGB alone
is worth inside the method; delay=n: n of the clip's frames late; dark=x: without the share x of the light.

Comparison: python eval.py --compare RUN... puts finished runs into one table; it is short for
python -m engine.runs.comparison, whose --help says more. python eval.py --fuse RUN RUN... scores an ensemble of runs,
and is short for python -m engine.runs.ensemble.
"""
EXAMPLES = """\
python eval.py runs/xnorm
python eval.py runs/xnorm/last.pt --split val -o results/xnorm-val
torchrun --nproc_per_node=8 eval.py runs/xnorm --views 10 --crops 3
python eval.py runs/xnorm --export epic
python eval.py runs/xnorm --corrupt rgb:missing flow:missing flow:delay=1,2,4 rgb:dark=0.5,0.9
python eval.py -c configs/xnorm.yaml --checkpoint rgb_flow.pt --split test
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    words = sys.argv[1:] if argv is None else argv
    for option, command in OTHERS.items():
        if option in words:
            return command([word for word in words if word != option])
    arguments = _parse(words)

    def work() -> int:
        checkpoint = arguments.checkpoint or find_checkpoint(arguments.run)
        config = load_config(arguments.config or _config_of(checkpoint), arguments.overrides)
        multi_view = MultiView(arguments.views, arguments.crops)
        corruptions = [corruption for each in arguments.corrupt for corruption in each]
        folder = arguments.output or _folder(checkpoint, arguments.split, multi_view, bool(corruptions))
        epic = None
        if arguments.export:
            check_exportable(config.model)
            epic = Submission(**_levels(arguments))
        with open_session(config, arguments.quiet) as session:
            run(config, session, checkpoint, arguments.split, folder, multi_view, epic, corruptions)
        return 0

    return exit_code_of(work)


def _config_of(checkpoint: Path) -> Path:
    """The config that train.py wrote beside a checkpoint.

    Raises:
        ConfigError: it is not there.
    """
    config = checkpoint.parent / CONFIG
    if not config.is_file():
        raise ConfigError(f"{config}: missing, which train.py writes beside {checkpoint.name}; name a config by -c")
    return config


def _folder(checkpoint: Path, split: str, multi_view: MultiView, is_corrupt: bool) -> Path:
    """Name the folder: test for best.pt, test-last for last.pt, test-10x3; scores of one never replace another's."""
    other = [] if checkpoint.name == BEST else [checkpoint.stem]
    views = [] if multi_view == SINGLE_VIEW else [f"{multi_view.num_temporal}x{multi_view.num_spatial}"]
    return checkpoint.parent / "-".join([split, *other, *views, *([CORRUPT] if is_corrupt else [])])


def run(
    config: Config,
    session: RunContext,
    checkpoint: Path,
    split: str,
    folder: Path,
    multi_view: MultiView = SINGLE_VIEW,
    epic: Submission | None = None,
    corruptions: Sequence[Corruption] = (),
) -> Evaluation:
    """Score `split` with the weights in `checkpoint`, print the metrics and write all into `folder`.

    With `corruptions` it is scored once more under each, and what is printed and written is how it stands that.
    """
    check_split(config, split)
    require_agreement(session.world, lambda: shared_facts([config], [split], [checkpoint]))
    state = read_state(checkpoint)
    model, differences = configured_model(config, state, checkpoint)
    if differences:
        session.display.print(f"note: these clips are not seen as in training: {'; '.join(differences)}")
    model = session.placement.move(model)
    check_streams(corruptions, model.streams)
    check_convolutions(model, config, session, training=False)
    trained = trained_classes(state.get("data"))
    model.targets.actions = trained_actions(state.get("data"))
    with open_loader(config, split, model, session, multi_view=multi_view, classes=trained) as loader:
        made = source_differences(state.get("data"), loader)
        if made:
            session.display.print(f"note: these frames were not made as in training: {'; '.join(made)}")
        subsets = find_subsets(config.data, split) if model.targets.has_actions else None
        score = partial(evaluate, model, loader, session, subsets=subsets)
        evaluation = score(description=split)
        faults = [(fault, score(description=f"{split}, {fault}", corrupt=fault)) for fault in corruptions]
    if faults:
        robustness = score_faults(checkpoint, split, evaluation, faults)
        if session.world.is_main:
            write_robustness(robustness, folder)
        session.display.table(robustness_table(robustness, f"{checkpoint} on {split}"))
        session.display.print(f"written to {folder}")
        return evaluation
    if session.world.is_main:
        note_stale_labels(config.data, [split], session.display)
        before = scored_checkpoint(folder)
        if before not in (None, checkpoint.name):
            session.display.print(f"note: the scores that were in {folder}, of {before}, are replaced")
        write_reports(evaluation, folder, checkpoint.name, epic)
        write_page(page_of(folder), config, checkpoint.parent, folder, split)
    if evaluation.metrics is None:
        session.display.print(f"{split}: no clip has a label: predictions.csv alone")
    else:
        for table in metrics_tables(evaluation, f"{checkpoint} on {split}"):
            session.display.table(table)
    session.display.print(f"written to {folder}")
    return evaluation


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(
        "eval.py", "Score every clip of a split once with a checkpoint's weights.", EXAMPLES, notes=NOTES
    )
    parser.add_argument("run", metavar="RUN", nargs="?", type=_run_type, help="a run's folder, or a checkpoint")
    add_config(parser, default=None, help="the config (default: config.yaml beside the checkpoint)")
    parser.add_argument(
        "--checkpoint", metavar="PT", type=path_type, help="a file, published weights too (default: RUN's best.pt)"
    )
    parser.add_argument("--split", default="test", help="train, val or test")
    parser.add_argument("--views", type=at_least(1), default=1, metavar="N", help="temporal views per clip")
    parser.add_argument("--crops", type=int, choices=(1, 3), default=1, help="spatial crops per temporal view")
    parser.add_argument(
        "--export", choices=("epic",), help="add the files of a benchmark's own code and server (default: none)"
    )
    for name, level in asdict(Submission()).items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=int,
            choices=range(6),
            metavar="0-5",
            help=f"supervision level {name} of the submission of --export epic (default: {level})",
        )
    parser.add_argument(
        "--corrupt",
        nargs="+",
        type=parse_corruptions,
        default=(),
        metavar="STREAM:KIND",
        help="score under faults of a stream, e.g. flow:missing flow:delay=1,2,4 rgb:dark=0.5,0.9 (default: none)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=path_type,
        metavar="FOLDER",
        help="where to write (default: a folder beside the checkpoint, named after split and views)",
    )
    arguments = parser.parse_intermixed_args(argv)
    if isinstance(arguments.run, str):
        arguments.overrides.insert(0, arguments.run)
        arguments.run = None
    if arguments.corrupt and arguments.export:
        parser.error("--export: allowed without --corrupt")
    if _levels(arguments) and not arguments.export:
        parser.error("--sls-pt, --sls-tl, --sls-td: allowed with --export epic")
    if (arguments.run is None) == (arguments.checkpoint is None):
        parser.error("what to score: allowed: either RUN or --checkpoint PT")
    return arguments


def _levels(arguments: argparse.Namespace) -> dict[str, int]:
    """The supervision levels that were given."""
    given = vars(arguments)
    return {name: given[name] for name in asdict(Submission()) if given[name] is not None}


def _run_type(text: str) -> Path | str:
    """An argparse type: a path, or the first override, as text, of a command line that has no RUN."""
    return text if "=" in text and not Path(text).exists() else path_type(text)


if __name__ == "__main__":
    sys.exit(main())
