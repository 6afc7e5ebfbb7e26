"""Late fusion: a network a stream, and the weighted mean of their logits."""

from torch import Tensor

from configs.methods import TwoHeadOptions
from models.fusion import FusionModel, FusionOutput
from models.heads import ClassificationHead
from models.trunks.build import build_trunk


class LateFusion(FusionModel):
    """Logits = rgb_weight * rgb + (1 - rgb_weight) * flow."""

    def __init__(self, options: TwoHeadOptions) -> None:
        super().__init__(options)
        self.rgb_weight = options.rgb_weight
        head = (options.hidden_size, options.hidden_size, options.num_classes, options.dropout)
        self.rgb_enc = build_trunk("rgb", options)
        self.rgb_out = ClassificationHead(*head)
        self.flow_enc = build_trunk("flow", options)
        self.flow_out = ClassificationHead(*head)

    def predict(self, rgb: Tensor, flow: Tensor) -> FusionOutput:
        """Predict from rgb [B, 3, T, H, W] and flow [B, 2, T, H, W]."""
        return self.blend(self.rgb_enc(rgb), self.flow_enc(flow))

    def blend(self, rgb: Tensor, flow: Tensor) -> FusionOutput:
        """Average the heads' logits; rgb and flow are embeddings [B, hidden_size]."""
        return FusionOutput(self.rgb_weight * self.rgb_out(rgb) + (1 - self.rgb_weight) * self.flow_out(flow))
