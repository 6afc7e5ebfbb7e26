"""Results file for the evaluation code of the EPIC-KITCHENS-100 action recognition challenge.

That code (the repository epic-kitchens/C1-Action-Recognition: evaluate.py and, for a submission, create_submission.py)
reads with torch.load a list of one dict per clip: `verb_output` [97], `noun_output` [300] and `narration_id`. We write
tensors where it names arrays: it makes arrays of them itself, and a file without NumPy's objects is one that torch.load
reads under weights_only=True, which is the default of current versions and the only way in which we load anything.
"""

from io import BytesIO
from typing import IO

import torch
from torch import Tensor

from common.errors import ConfigError
from engine.scoring.evaluation import Evaluation

NUM_VERBS, NUM_NOUNS = 97, 300
EPIC_FILE = "epic.pt"


def check_exportable(num_classes: int) -> None:
    """Refuse a model whose classes cannot be the challenge's verbs.

    Raises:
        ConfigError: with the number of classes that there may be.
    """
    if num_classes > NUM_VERBS:
        raise ConfigError(
            f"--export epic: model.num_classes is {num_classes}; the challenge has {NUM_VERBS} verbs, "
            "and labels must be its verb_class"
        )


def verb_scores(logits: Tensor) -> Tensor:
    """Widen logits [N, C] to all verbs, float32 [N, 97]: -inf where the model has no class."""
    scores = logits.new_full((len(logits), NUM_VERBS), -torch.inf)
    scores[:, : logits.shape[1]] = logits
    return scores


def write_epic(evaluation: Evaluation, file: IO[bytes]) -> None:
    """Write the results file; noun scores are all 0, no noun before another, as the model names none."""
    verbs, nouns = verb_scores(evaluation.logits), torch.zeros(NUM_NOUNS)
    # Rows of one tensor share its storage, so the file holds each score once and the nouns' zeros once for all.
    results = [
        {"verb_output": verb, "noun_output": nouns, "narration_id": clip_id}
        for verb, clip_id in zip(verbs, evaluation.clip_ids, strict=True)
    ]
    content = BytesIO()  # torch.save cannot say why the disk refuses it
    torch.save(results, content)
    file.write(content.getbuffer())
