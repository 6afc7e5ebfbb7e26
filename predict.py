"""Says what a trained run sees in videos: `python predict.py runs/own video.mp4`."""

if __name__ == "__main__":
    from common.startup import begin

    begin()

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from common.cli import at_least, command_parser, path_type
from common.display import Display
from common.errors import ConfigError, UserError, exit_code_of
from xnorm import Predictions, TrainedRun, load_run
from xnorm.predictions import CSV, JSON, joined, prediction_table, write_predictions
from xnorm.render import check_renderable, render
from xnorm.sources import VideoSource

NOTES = f"""\
RUN is a run's folder (its best.pt is taken) or a checkpoint. A VIDEO is a file, a folder of numbered images, or a
packed split. Frames and flow of a video are made in memory, as extract.py made those that the run was trained on; a run
knows how, unless its frames came from elsewhere: then --flow-options says it.

Without --window and --segments a video is one clip. Windows begin with the video, and the last one ends with it. A row
of --segments is of the video whose path ends in its `file`; a `label` is not needed, and not looked at.

Prints the likeliest classes of each clip, and writes {CSV} (a line a clip; scores are the softmax of the
logits) and {JSON}. They are what pack.py and eval.py give for the same segment. A run without class names
gives numbers.
"""
EXAMPLES = """\
python predict.py runs/own video.mp4
python predict.py runs/own match.mp4 --window 2 --hop 1 --render match-captioned.mp4
python predict.py runs/own/last.pt videos/0.mp4 videos/1.mp4 --segments segments.csv -o results
python predict.py runs/xnorm data/shards/val
python predict.py runs/xnorm video.mp4 --flow-options extract.json --fps 60
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)
    return exit_code_of(lambda: _run(arguments), "no predictions are written")


def _run(arguments: argparse.Namespace) -> int:
    if arguments.render is not None:
        check_renderable(arguments.render, arguments.videos)
    run = load_run(arguments.run, arguments.device, arguments.threads, arguments.flow_options)
    with Display(arguments.quiet) as display:
        if run.classes is None:
            display.print(f"note: {run.path} knows no class names: classes are numbers")
        done, failed = _predict(run, arguments, display)
        if done:
            predictions = joined(done)
            write_predictions(predictions, arguments.output, run.about, arguments.top)
            display.print(f"written to {arguments.output}/{CSV}, {JSON}")
    if failed:
        raise UserError("\n       ".join(failed))
    return 0


def _predict(run: TrainedRun, arguments: argparse.Namespace, display: Display) -> tuple[list[Predictions], list[str]]:
    """The predictions of the videos that can be used, and what is wrong with the others."""
    cut = {name: getattr(arguments, name) for name in ("window", "hop", "segments", "fps")}
    done, failed = [], []
    for path in arguments.videos:
        try:
            source = run.open(path, **cut)
            display.begin(str(path), len(source.spans), unit="clips")
            predictions = run.score(source, lambda count: display.update(done=count))
            if arguments.render is not None and isinstance(source, VideoSource):
                render(source, predictions, arguments.render, display)
        except ConfigError:
            raise
        except UserError as error:  # the other videos can still be looked at
            failed.append(str(error))
            continue
        done.append(predictions)
        for note in predictions.notes:
            display.print(f"note: {note}")
        display.table(prediction_table(predictions, str(path), arguments.top))
        if arguments.render is not None:
            display.print(f"rendered to {arguments.render}")
    return done, failed


def _seconds(text: str) -> float:
    """An argparse type: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed: a number above 0")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("predict.py", "Classify the clips of videos by a trained run.", EXAMPLES, notes=NOTES)
    parser.add_argument("run", metavar="RUN", type=path_type, help="a run's folder, or a checkpoint")
    parser.add_argument("videos", metavar="VIDEO", type=path_type, nargs="+", help="video, folder of frames, or split")
    group = parser.add_argument_group("clips of a video")
    group.add_argument("--window", type=_seconds, metavar="S", help="seconds of each clip (default: one, all of it)")
    group.add_argument("--hop", type=_seconds, metavar="S", help="seconds between windows (default: half a window)")
    group.add_argument(
        "--segments",
        type=path_type,
        metavar="CSV",
        help="file, start, stop as extract.py reads them (default: windows, or all of it)",
    )
    group.add_argument(
        "--fps", type=_seconds, metavar="F", help="frames per second to take, or of folders (default: the run's)"
    )
    group.add_argument(
        "--flow-options",
        type=path_type,
        metavar="FILE",
        help="an extract.json, how frames and flow are made (default: as the run's were)",
    )
    group = parser.add_argument_group("output")
    group.add_argument("--top", type=at_least(1), default=5, metavar="K", help="classes that are shown of a clip")
    group.add_argument(
        "-o", "--output", type=path_type, default=Path("predictions"), metavar="FOLDER", help="where to write"
    )
    group.add_argument(
        "--render",
        type=path_type,
        metavar="OUT.mp4",
        help="write the video with its flow, and what it is taken for (default: none)",
    )
    group = parser.add_argument_group("machine")
    group.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the model runs")
    group.add_argument(
        "--threads", type=at_least(1), metavar="N", help="of decoding and flow (default: a thread a core)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
