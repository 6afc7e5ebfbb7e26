"""Distillation (Hinton, Vinyals and Dean, 2015): RGB alone, taught by a run that has seen flow as well."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from torch import Tensor

from common.errors import ConfigError, UserError
from configs.methods import DistillOptions
from models.checkpoint import checksum
from models.fusion import FusionModel, FusionOutput, Training
from models.methods.unimodal import RgbOnly

NONE = -1


@dataclass(frozen=True)
class Teacher:
    """A model that is not a part of the one that it teaches: not trained, saved or copied with it."""

    model: FusionModel

    def __deepcopy__(self, memo: dict[int, Any]) -> "Teacher":
        return self


class Distill(RgbOnly):
    """RGB alone, whose logits follow those of a frozen run on the same clips, in training (section 2 of the paper).

    With z of the student, v of the teacher and p_T = softmax(. / T), the loss beside cross-entropy is

        distill = weight T^2 KL(p_T(v) || p_T(z)), the mean over clips; with several targets the sum over these

    where T^2 keeps the gradient's size as T changes. The teacher sees both streams of the very clips that the student
    sees, windows, mirrors and all; flow is decoded in training alone. What is saved are the weights of `rgb`, and the
    teacher's checksum, so that no other one takes over when a run is resumed.

    Where this is not the paper: its cross-entropy has a weight of its own, here 1.
    """

    options: DistillOptions
    training_streams = ("rgb", "flow")
    unpublished = frozenset({"teacher_checksum"})
    teacher_checksum: Tensor

    def __init__(self, options: DistillOptions) -> None:
        super().__init__(options)
        self.teacher: Teacher | None = None
        self.register_buffer("teacher_checksum", torch.tensor(NONE))

    def start(self, training: Training) -> None:
        """Load the teacher.

        Raises:
            ConfigError: the config names none.
            UserError: it cannot be loaded, has other classes, or is not the one that this run began with.
        """
        path = self.options.teacher
        if path is None:
            raise ConfigError("model.teacher: found null, allowed: a run's folder or its best.pt, of both streams")
        teacher = training.load_run(path)
        found = checksum(teacher.state_dict())
        if self.teacher_checksum not in (NONE, found):
            raise UserError(f"{path}: model.teacher: not the weights that this run has been taught by so far")
        self.teacher_checksum.fill_(found)
        self.teacher = Teacher(teacher)

    def forward(self, rgb: Tensor | None, flow: Tensor | None) -> FusionOutput:
        """Predict from rgb [B, 3, T, H, W]; in training also what the teacher does, from flow [B, 2, T, H, W] too."""
        output = super().forward(rgb, flow)
        if self.training and self.teacher is not None:
            with torch.no_grad():
                output.extra["teacher"] = self.teacher.model(rgb, flow).logits
        return output

    def losses(self, output: FusionOutput, labels: Tensor) -> dict[str, Tensor]:
        """Return cross-entropy, and in training the distance from the teacher."""
        terms = super().losses(output, labels)
        if "teacher" in output.extra:
            student, teacher = (self.targets.split(logits) for logits in (output.logits, output.extra["teacher"]))
            distances = [distance(student[name], teacher[name], self.options.temperature) for name in student]
            terms["distill"] = self.options.weight * torch.stack(distances).sum()
        return terms


def distance(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(teacher || student) of logits [B, C] at a temperature T, in fp32; the mean over clips, a scalar."""
    log_p, log_q = (F.log_softmax(logits.float() / temperature, dim=1) for logits in (teacher, student))
    return temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
