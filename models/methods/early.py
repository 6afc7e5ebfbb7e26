"""Early fusion: the embeddings of both streams side by side, into one head."""

import torch
from torch import Tensor

from configs.options import CommonOptions
from models.fusion import FusionModel, FusionOutput
from models.heads import ClassificationHead
from models.trunks.build import build_trunk


class EarlyFusion(FusionModel):
    """Logits from both streams' embeddings, concatenated."""

    def __init__(self, options: CommonOptions) -> None:
        super().__init__(options)
        self.rgb_enc = build_trunk("rgb", options)
        self.flow_enc = build_trunk("flow", options)
        self.out = ClassificationHead(
            2 * options.hidden_size, options.hidden_size, options.num_classes, options.dropout
        )

    def predict(self, rgb: Tensor, flow: Tensor) -> FusionOutput:
        """Predict from rgb [B, 3, T, H, W] and flow [B, 2, T, H, W]."""
        embeddings = torch.cat([self.rgb_enc(rgb), self.flow_enc(flow)], dim=1)  # [B, 2 hidden_size]
        return FusionOutput(self.out(embeddings))


class ThreeHeads(EarlyFusion):
    """Early fusion with a head for each stream as well, which have a loss of their own; the joint one predicts."""

    def __init__(self, options: CommonOptions) -> None:
        super().__init__(options)
        sizes = (options.hidden_size, options.hidden_size, options.num_classes, options.dropout)
        self.rgb_out = ClassificationHead(*sizes)
        self.flow_out = ClassificationHead(*sizes)

    def predict(self, rgb: Tensor, flow: Tensor) -> FusionOutput:
        """Predict from rgb [B, 3, T, H, W] and flow [B, 2, T, H, W]."""
        rgb, flow = self.rgb_enc(rgb), self.flow_enc(flow)  # embeddings, [B, hidden_size]
        extra = {"rgb": self.rgb_out(rgb), "flow": self.flow_out(flow)}
        return FusionOutput(self.out(torch.cat([rgb, flow], dim=1)), extra)

    def losses(self, output: FusionOutput, labels: Tensor) -> dict[str, Tensor]:
        """Return the heads' cross-entropies as `weigh` has them; "cls" is that of the joint head, which predicts."""
        heads = {"cls": output.logits, **output.extra}
        return {
            term: self.weigh(head) * loss
            for head, logits in heads.items()
            for term, loss in self.targets.losses(logits, labels, head).items()
        }

    def weigh(self, head: str) -> Tensor | float:
        """Return the weight of a head's loss: of "rgb", "flow" or "cls"."""
        return 1.0
