"""Results file for the evaluation code of the EPIC-KITCHENS-100 action recognition challenge.

That code (the repository epic-kitchens/C1-Action-Recognition: evaluate.py and, for a submission, create_submission.py)
reads with torch.load a list of one dict per clip: `verb_output` [97], `noun_output` [300] and `narration_id`. We write
tensors where it names arrays: it makes arrays of them itself, and a file without NumPy's objects is one that torch.load
reads under weights_only=True, which is the default of current versions and the only way in which we load anything.
"""

import json
import zipfile
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import IO

import torch
from torch import Tensor

from common.errors import ConfigError
from configs.options import ClassCounts, CommonOptions
from engine.scoring.evaluation import Evaluation
from models.targets import NOUN, VERB

SIZES = {VERB: 97, NOUN: 300}
EPIC_FILE, SUBMISSION_FILE = "epic.pt", "epic-submission.zip"
VERSION, CHALLENGE = "0.2", "action_recognition"
ABSENT = -1e4  # the score of a class that the model does not have: JSON has no infinity, and the softmax of both is 0
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # so that the same scores give the same bytes


@dataclass(frozen=True)
class Submission:
    """Supervision levels of a submission, 0 to 5 each, as the challenge's rules number them."""

    sls_pt: int = 2  # pretraining: public images and videos
    sls_tl: int = 3  # labels of training: start and stop frames
    sls_td: int = 4  # training data: train and validation; 3 is train alone


def check_exportable(options: CommonOptions) -> None:
    """Refuse a model whose classes cannot be the challenge's verbs and nouns.

    Raises:
        ConfigError: with the number of classes that there may be.
    """
    counts = options.num_classes
    sizes = counts.by_target if isinstance(counts, ClassCounts) else {(options.targets or (VERB,))[0]: counts}
    wrong = [(name, size) for name, size in sizes.items() if name in SIZES and size > SIZES[name]]
    if wrong:
        name, size = wrong[0]
        raise ConfigError(
            f"--export epic: model.num_classes is {size}; the challenge has {SIZES[name]} {name}s, "
            f"and labels must be its {name}_class"
        )


def widen(logits: Tensor, target: str) -> Tensor:
    """Widen logits [N, C] to all of EPIC's verbs or nouns, float32 [N, 97 or 300]: -inf where there is no class."""
    scores = logits.new_full((len(logits), SIZES[target]), -torch.inf)
    scores[:, : logits.shape[1]] = logits
    return scores


def epic_scores(evaluation: Evaluation) -> dict[str, Tensor]:
    """Return the scores of verbs [N, 97] and nouns [N, 300].

    Those of nouns are all 0, no noun before another, where the model names none; one target alone is taken for verbs.
    """
    parts = evaluation.targets or {VERB: evaluation}
    nothing = torch.zeros(1, 1).expand(len(evaluation.clip_ids), -1)
    return {
        name: widen(parts[name].logits, name) if name in parts else nothing.expand(-1, size)
        for name, size in SIZES.items()
    }


def write_epic(evaluation: Evaluation, file: IO[bytes]) -> None:
    """Write the results file."""
    scores = epic_scores(evaluation)
    # Rows of one tensor share its storage, so the file holds each score once and the nouns' zeros once for all.
    results = [
        {"verb_output": verb, "noun_output": noun, "narration_id": clip_id}
        for verb, noun, clip_id in zip(scores[VERB], scores[NOUN], evaluation.clip_ids, strict=True)
    ]
    content = BytesIO()  # torch.save cannot say why the disk refuses it
    torch.save(results, content)
    file.write(content.getbuffer())


def write_submission(evaluation: Evaluation, levels: Submission, file: IO[bytes]) -> None:
    """Write the zip that the challenge's server takes: test.json with the score of each verb and noun of each clip."""
    scores = {name: values.clamp(min=ABSENT).tolist() for name, values in epic_scores(evaluation).items()}
    results = {
        clip_id: {name: {str(k): score for k, score in enumerate(scores[name][n])} for name in SIZES}
        for n, clip_id in enumerate(evaluation.clip_ids)
    }
    content = {"version": VERSION, "challenge": CHALLENGE, **asdict(levels), "results": results}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo("test.json", _LONG_AGO)
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, json.dumps(content))
