"""MISA (Hazarika, Zimmermann and Poria, 2020): what two streams share, and what is private to each."""

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from torch import Tensor, nn

from configs.methods import MisaOptions
from models.fusion import FusionModel, FusionOutput
from models.trunks.build import build_trunk
from models.trunks.trunk import Trunk

EPSILON = 1e-6  # of the published code


def difference_loss(first: Tensor, second: Tensor) -> Tensor:
    """Say how far two sets of representations, both [B, D], are from orthogonal; a scalar, 0 where they are.

    Each dimension is centred over the batch, each row scaled to length 1 by a length that takes no gradient (as MISA's
    authors have it), and the result is the mean square of the D x D products.
    """
    first, second = (_unit_rows(x - x.mean(dim=0)) for x in (first, second))
    difference: Tensor = (first.T @ second).square().mean()
    return difference


def central_moment_discrepancy(first: Tensor, second: Tensor, num_moments: int = 5) -> Tensor:
    """Compare two samples, both [B, D] with values in [0, 1], by their mean and central moments; a scalar.

    The sum over the moments of the Euclidean distance between them. Where two moments are equal, the distance has no
    derivative: the square root of the published code gives NaN there, `vector_norm` the subgradient 0.
    """
    means = [x.mean(dim=0) for x in (first, second)]  # each [D]
    centred = [x - mean for x, mean in zip((first, second), means, strict=True)]
    distances = [torch.linalg.vector_norm(means[0] - means[1])]
    for order in range(2, num_moments + 1):
        moments = [x.pow(order).mean(dim=0) for x in centred]
        distances.append(torch.linalg.vector_norm(moments[0] - moments[1]))
    distance: Tensor = torch.stack(distances).sum()
    return distance


def _unit_rows(x: Tensor) -> Tensor:
    rows: Tensor = x / (torch.linalg.vector_norm(x.detach(), dim=1, keepdim=True) + EPSILON)
    return rows


STREAMS = {"rgb": 1, "flow": 2}  # the numbers in the published names


class Misa(FusionModel):
    """Modality-invariant and -specific representations, fused by one transformer layer (MISA, ACM MM 2020).

    Each stream's features go through two recurrent layers to one vector, which a shared and a private encoder turn into
    two representations. The four of both streams attend to each other and are classified together. Three losses shape
    them: private ones differ from shared ones and from each other, shared ones are alike in distribution, and both
    together give the stream's vector back.

    Where this is not the paper's:

    - Two streams instead of three, and their sequences are the tokens of the trunk's last stage (98 at 16 x 224 x 224,
      by time, row, column), as in the published code: this is the same input that all methods here have.
    - The difference loss is the mean and not the sum of squared products, with lengths that take no gradient, as in the
      code of MISA's authors, whose weights it is used with.
    - The domain-adversarial loss, which the paper offers in place of CMD, is not there: CMD did better in the paper.
    - CMD is computed in fp32, with a gradient where two moments are equal.
    - The trunk learns, unless `freeze_trunk` says otherwise; the published code freezes it for MISA and MulT alone.
    - `rgb_enc.logits` and `flow_enc.logits` (0.82 M of the parameters, with the trunk i3d) are the published code's
      Kinetics classes, there so that its state dicts load; they are neither used nor trained.
    """

    options: MisaOptions

    def __init__(self, options: MisaOptions) -> None:
        super().__init__(options)
        size, dropout = options.hidden_size, options.dropout
        for stream, number in STREAMS.items():
            trunk = build_trunk(stream, options, with_embedding=False)
            self.add_module(f"{stream}_enc", trunk)
            self._add_stream(number, trunk.out_channels, size)
        self.shared = nn.Sequential(nn.Linear(size, size), nn.Sigmoid())
        layer = nn.TransformerEncoderLayer(size, nhead=2, dropout=dropout)
        self.transformer_encoder = nn.TransformerEncoder(layer, num_layers=1, enable_nested_tensor=False)
        self.fusion = nn.Sequential(
            nn.Linear(4 * size, 2 * size), nn.Dropout(dropout), nn.ReLU(), nn.Linear(2 * size, options.num_classes)
        )

    def _add_stream(self, number: int, channels: int, size: int) -> None:
        self.add_module(f"rnn_{number}1", nn.LSTM(channels, channels, bidirectional=True))
        self.add_module(f"rnn_{number}2", nn.LSTM(2 * channels, channels, bidirectional=True))
        self.add_module(f"layer_norm_{number}", nn.LayerNorm(2 * channels))
        self.add_module(
            f"project_{number}", nn.Sequential(nn.Linear(4 * channels, size), nn.ReLU(), nn.LayerNorm(size))
        )
        self.add_module(f"private_{number}", nn.Sequential(nn.Linear(size, size), nn.Sigmoid()))
        self.add_module(f"recon_{number}", nn.Linear(size, size))

    def predict(self, rgb: Tensor, flow: Tensor) -> FusionOutput:
        """Predict from rgb [B, 3, T, H, W] and flow [B, 2, T, H, W]."""
        extra: dict[str, Tensor] = {}  # each [B, hidden_size]
        for stream, clip in (("rgb", rgb), ("flow", flow)):
            vector = extra[f"{stream}_vector"] = self.summarise(stream, clip)
            private = extra[f"{stream}_private"] = self._run(f"private_{STREAMS[stream]}", vector)
            shared = extra[f"{stream}_shared"] = self.shared(vector)
            extra[f"{stream}_reconstruction"] = self._run(f"recon_{STREAMS[stream]}", private + shared)
        names = ("rgb_private", "flow_private", "rgb_shared", "flow_shared")
        fused = self.transformer_encoder(torch.stack([extra[name] for name in names]))  # [4, B, hidden_size]
        return FusionOutput(self.fusion(fused.transpose(0, 1).flatten(1)), extra)

    def summarise(self, stream: str, clip: Tensor) -> Tensor:
        """Turn a stream's clip [B, 3 or 2, T, H, W] into one vector [B, hidden_size]."""
        number = STREAMS[stream]
        trunk = cast(Trunk, self.get_submodule(f"{stream}_enc"))
        tokens = trunk.forward_features(clip).flatten(2).permute(2, 0, 1)  # [tokens, B, C]
        states, (first, _) = self.get_submodule(f"rnn_{number}1")(tokens)  # the last states, [2 directions, B, C]
        _, (second, _) = self.get_submodule(f"rnn_{number}2")(self._run(f"layer_norm_{number}", states))
        final = torch.cat([first, second], dim=2).transpose(0, 1).flatten(1)  # [B, 4 C]: forward's two, backward's two
        return self._run(f"project_{number}", final)

    def losses(self, output: FusionOutput, labels: Tensor) -> dict[str, Tensor]:
        """Add the weighted difference, similarity and reconstruction losses, in fp32."""
        options = self.options
        with torch.autocast(labels.device.type, enabled=False):
            extra = {name: x.to(torch.promote_types(x.dtype, torch.float32)) for name, x in output.extra.items()}
            pairs = (("rgb_private", "rgb_shared"), ("flow_private", "flow_shared"), ("rgb_private", "flow_private"))
            diff = torch.stack([difference_loss(extra[a], extra[b]) for a, b in pairs]).sum()
            cmd = central_moment_discrepancy(extra["rgb_shared"], extra["flow_shared"])
            errors = [F.mse_loss(extra[f"{stream}_reconstruction"], extra[f"{stream}_vector"]) for stream in STREAMS]
            recon = torch.stack(errors).mean()
        return {
            **super().losses(output, labels),
            "diff": options.diff_weight * diff,
            "cmd": options.cmd_weight * cmd,
            "recon": options.recon_weight * recon,
        }

    def _run(self, name: str, x: Tensor) -> Tensor:
        result: Tensor = self.get_submodule(name)(x)
        return result
