"""MMPareto (Wei and Hu, ICML 2024): joint and unimodal gradients of each encoder, combined so that none is opposed."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from configs.methods import MMParetoOptions
from models.fusion import GradientStep
from models.methods.early import ThreeHeads

Gradients = Sequence[Tensor]


class MMPareto(ThreeHeads):
    """Early fusion with a head for each stream as well, all with one cross-entropy each; the joint head predicts.

    The encoder of a stream has two gradients: m of the joint loss, u of the stream's own. With a and b from
    `pareto_weights`, each of its parameters gets

        g = 2 a m + 2 b u,    g <- gamma g max(1, |m + u| / |g|)

    so that the direction opposes neither loss and the size is at least that of the plain sum, times `gamma`. Source:
    the paper's algorithm 1 and the authors' code, whose gamma is 1.5 and whose norms are of each parameter by itself.

    Where this is not the authors' code:

    - The trunks and heads are those of all methods here; theirs are ResNets with linear heads.
    - a and b are not held to [0.001, 0.999], which they never leave where gradients conflict.
    - They train with SGD. Under AdamW, which divides by the gradient's own size, gamma has no effect: what acts is the
      direction. `train.optimizer: sgd` is theirs.
    """

    options: MMParetoOptions
    gradients_by_term: ClassVar = {"rgb_enc": ("cls", "rgb"), "flow_enc": ("cls", "flow")}

    def adjust_gradients(self, step: GradientStep) -> None:
        """Combine both gradients of each encoder; the heads keep that of the sum."""
        for module, terms in step.terms.items():
            joint, own = terms.values()
            weights = 2 * pareto_weights(joint, own)
            for parameter, m, u in zip(self.trained(module), joint, own, strict=True):
                combined = weights[0] * m + weights[1] * u
                enlarged = (m + u).norm() / combined.norm().clamp(min=torch.finfo(m.dtype).tiny)
                parameter.grad = self.options.gamma * enlarged.clamp(min=1) * combined


def pareto_weights(first: Gradients, second: Gradients) -> Tensor:
    """Weigh two gradients, each of several parameters: [2], a + b = 1.

    Where their cosine is above 0 they do not conflict, and weigh 1/2 each. Else a g_1 + b g_2 is the point nearest to 0
    between the two (Desideri 2012, two gradients): a = g_2 (g_2 - g_1) / |g_1 - g_2|^2, which opposes neither.
    """
    one, both, other = (_dot(*pair) for pair in ((first, first), (first, second), (second, second)))
    a = (other - both) / (one + other - 2 * both).clamp(min=torch.finfo(one.dtype).tiny)
    a = torch.where(both > 0, 0.5, a)
    return torch.stack([a, 1 - a])


def _dot(first: Gradients, second: Gradients) -> Tensor:
    return torch.stack([(one * other).sum() for one, other in zip(first, second, strict=True)]).sum()
