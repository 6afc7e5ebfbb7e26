"""One stream alone: a trunk and a head."""

from torch import Tensor

from configs.options import CommonOptions
from models.fusion import FusionModel, FusionOutput
from models.heads import ClassificationHead
from models.trunks.build import build_trunk


class RgbOnly(FusionModel):
    """Logits from RGB; flow is neither decoded nor looked at."""

    streams = ("rgb",)

    def __init__(self, options: CommonOptions) -> None:
        super().__init__(options)
        self.rgb_enc = build_trunk("rgb", options)
        self.rgb_out = ClassificationHead(
            options.hidden_size, options.hidden_size, options.num_classes, options.dropout
        )

    def predict(self, rgb: Tensor) -> FusionOutput:
        """Predict from rgb [B, 3, T, H, W]."""
        return FusionOutput(self.rgb_out(self.rgb_enc(rgb)))


class FlowOnly(FusionModel):
    """Logits from flow; RGB is neither decoded nor looked at."""

    streams = ("flow",)

    def __init__(self, options: CommonOptions) -> None:
        super().__init__(options)
        self.flow_enc = build_trunk("flow", options)
        self.flow_out = ClassificationHead(
            options.hidden_size, options.hidden_size, options.num_classes, options.dropout
        )

    def predict(self, flow: Tensor) -> FusionOutput:
        """Predict from flow [B, 2, T, H, W]."""
        return FusionOutput(self.flow_out(self.flow_enc(flow)))
