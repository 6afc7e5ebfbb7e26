"""OGM-GE (Peng, Wei, Deng, Wang and Hu, CVPR 2022): the stream that is ahead learns slower, under noise."""

import torch
from torch import Tensor

from configs.methods import OgmGeOptions
from models.fusion import FusionOutput, GradientStep
from models.methods.late import LateFusion


class OgmGe(LateFusion):
    """Late fusion whose encoders' gradients are modulated on the fly, with generalisation enhancement.

    s_u is the sum over the clips of a step of softmax(logits of stream u alone) at the clip's class, rho_u = s_u / s_v
    for the other stream v. With the paper's equation 10,

        k_u = 1 - tanh(alpha rho_u) where rho_u > 1, else 1
        g_u <- k_u g_u + h,  h ~ N(0, (noise std(g_u))^2)

    in each convolution of the encoder of u, where g_u is its gradient and std is over its elements, as in the authors'
    code. The logits of a stream alone are its part of the sum, w rgb or (1 - w) flow.

    Where this is not the authors' code:

    - Heads have two hidden layers, as those of all methods here, where theirs is a linear layer; the sum is late
      fusion's.
    - Scores are those of all clips of a step, on all processes together; the noise is the same on all.
    - Modulation has no last epoch (theirs ends at 50 of 100 by default).
    - The paper trains with SGD. AdamW divides by the gradient's own size, so that a factor which stays the same has no
      effect: what acts then is how k changes, and the noise. `train.optimizer: sgd` is the paper's.
    """

    options: OgmGeOptions

    def blend(self, rgb: Tensor, flow: Tensor) -> FusionOutput:
        """Average the heads' logits, and keep each one's part."""
        parts = {"rgb": self.rgb_weight * self.rgb_out(rgb), "flow": (1 - self.rgb_weight) * self.flow_out(flow)}
        return FusionOutput(parts["rgb"] + parts["flow"], parts)

    def measure(self, output: FusionOutput, labels: Tensor) -> dict[str, Tensor]:
        """Return each stream's score s_u."""
        return {stream: self.score(logits, labels) for stream, logits in output.extra.items()}

    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sum the probabilities that logits [B, C] give to the right class of each clip and target; a scalar."""
        rows = labels.reshape(len(labels), -1, 1)  # [B, targets, 1]
        heads = zip(self.targets.split(logits.float()).values(), rows.unbind(dim=1), strict=True)
        return torch.stack([head.softmax(dim=1).gather(1, right).sum() for head, right in heads]).sum()

    def adjust_gradients(self, step: GradientStep) -> None:
        """Modulate the gradients of both encoders, and add noise to them."""
        rgb, flow = step.sums["rgb"], step.sums["flow"]
        for stream, ratio in (("rgb", rgb / flow), ("flow", flow / rgb)):
            factor = torch.where(ratio > 1, 1 - torch.tanh(self.options.alpha * ratio), 1.0)
            for parameter in self.trained(f"{stream}_enc"):
                if parameter.ndim > 2 and parameter.grad is not None:  # a convolution
                    noise = torch.empty_like(parameter).normal_(generator=step.generator)
                    noise *= self.options.noise * parameter.grad.std(correction=0)
                    parameter.grad.mul_(factor).add_(noise)
