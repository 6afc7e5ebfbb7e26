"""A model card in Markdown, made of a run's own numbers; what nobody said is said to be unknown."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from common.errors import listed
from engine.runs.checkpoint import BEST, EXPORTED, State
from engine.runs.provenance import preprocessing, trained_classes
from engine.runs.records import SUMMARY
from engine.scoring.reports import METRICS
from models import FusionModel

UNKNOWN = "not stated"
SHARES = {"top1": "top-1", "top5": "top-5", "mean_class": "mean-class"}


@dataclass(frozen=True)
class Licences:
    """Of the weights, as Hugging Face's identifiers, and of the data that they were trained on; None: not stated."""

    weights: str | None = None
    data: str | None = None


def model_card(
    checkpoint: Path, state: State, model: FusionModel, licences: Licences, differences: Mapping[str, float]
) -> str:
    """Return the card of a checkpoint; `differences` are of the exported formats' logits from the model's."""
    config, run = state["config"], checkpoint.parent
    summary = _read(run / SUMMARY)
    method = Path(str(config["model"]["fusion"])).name
    front = {
        "license": licences.weights or "unknown",
        "library_name": "xnorm-dali",
        "pipeline_tag": "video-classification",
        "tags": ["action-recognition", "optical-flow", method],
    }
    sections = {
        "What it is": _identity(config, state, model, method),
        "Classes": _classes(state),
        "Data": _data(config, state, summary),
        "Accuracy": _accuracies(state, summary, run),
        "Inputs": _inputs(state),
        "Files": _files(differences),
        "Licence": _table(
            ("of", "licence"),
            [
                ("the weights", licences.weights or UNKNOWN),
                ("the training data", licences.data or UNKNOWN),
                ("the code that trained them", "Apache-2.0"),
            ],
        ),
        "Limits": [
            "A clip that shows none of the classes is given one all the same, often with a high probability.",
            "Frames and flow made otherwise than under 'Data', or of another rate, are not what was learned from.",
        ],
    }
    head = f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {config.get('name', method)}"
    return "\n\n".join([head, *(f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items())]) + "\n"


def _read(path: Path) -> dict[str, Any]:
    """The content of a JSON file of the run; nothing where it is missing or damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _identity(config: State, state: State, model: FusionModel, method: str) -> list[str]:
    streams = " and ".join({"rgb": "RGB", "flow": "optical flow"}[stream] for stream in model.streams)
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = f"epoch {state['epoch']}, the best of validation" if "epoch" in state else UNKNOWN
    pretrained = config["model"].get("pretrained") or {}
    first = [f"{stream}: {Path(str(path)).name}" for stream, path in pretrained.items() if path]
    return _table(
        ("", ""),
        [
            ("method", f"{method}, on {streams}"),
            ("trunk", f"{model.options.trunk}, width {model.options.width:g}"),
            ("parameters", f"{total:,}"),
            ("weights", trained),
            ("started from", ", ".join(first) or "random weights"),
            ("seed", str(config.get("seed", UNKNOWN))),
        ],
    )


def _classes(state: State) -> list[str]:
    named = trained_classes(state.get("data"))
    if not named:
        return [f"Without names: {state['config']['model']['num_classes']}, by number."]
    return [f"- {target}: {listed([str(name) for name in names or ()], 400)}" for target, names in named.items()]


def _data(config: State, state: State, summary: State) -> list[str]:
    counts = [(split, str(counted["clips"])) for split, counted in (summary.get("data") or {}).items()]
    data = config.get("data", {})
    files = [
        (f"{split}'s annotations", ", ".join(Path(str(path)).name for path in paths))
        for split, paths in (data.get("annotations") or {}).items()
        if paths
    ]
    made = preprocessing(state)["made"]
    way = "not on record" if made is None else ", ".join(f"{key} {value}" for key, value in made.items())
    rows = [("rows taken by", f"preset {data.get('preset', UNKNOWN)}"), *files, ("frames and flow", way)]
    return _table(("", ""), [*((f"{split} clips", clips) for split, clips in counts), *rows])


def _accuracies(state: State, summary: State, run: Path) -> list[str]:
    """What was measured: validation's best, and each split that is scored beside the checkpoint."""
    rows = []
    if "top1" in state:
        val = summary.get("val") or {}
        rows.append(("val, which chose the epoch", "", f"top-1 {state['top1']:.1%}", _share("mean_class", val)))
    for path in sorted(run.glob(f"*/{METRICS}")):
        found = _read(path)
        if found.get("checkpoint") == BEST and found.get("top1") is not None:
            shares = (_share(key, found) for key in SHARES)
            top1, *more = [share for share in shares if share]
            rows.append((path.parent.name, f"{found['clips']:,}", top1, ", ".join(more)))
    return _table(("split", "clips", "accuracy", ""), rows) if rows else ["Not measured."]


def _share(key: str, found: Mapping[str, Any]) -> str:
    return "" if found.get(key) is None else f"{SHARES[key]} {found[key]:.1%}"


def _inputs(state: State) -> list[str]:
    return _table(("", ""), [(key, str(value)) for key, value in preprocessing(state).items() if key != "made"])


def _files(differences: Mapping[str, float]) -> list[str]:
    rows = [
        (f"`{EXPORTED}`", "weights; config, classes, preprocessing as metadata; `xnorm.load_run` reads it", ""),
        ("`config.yaml`", "the whole config of the run", ""),
    ]
    texts = {"program": ("`model.pt2`", "`torch.export.load`"), "onnx": ("`model.onnx`", "ONNX")}
    rows += [(*texts[name], f"{share:.1e}") for name, share in differences.items()]
    return [
        *_table(("file", "what", "logits off by"), rows),
        "",
        f"Made with torch {torch.__version__}. Clips are uint8, any number at a time; T, H and W as under 'Inputs'.",
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return list(_lines([header, ["---"] * len(header), *rows]))


def _lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in cells)} |"
