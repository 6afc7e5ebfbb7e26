"""The published networks, written down plainly: every padding a copy, every statistic a repeated map.

Functions of a state dict with the published names, so that no code is shared with the models under test. The last
pooling takes what is left of time and space, which at 16 x 224 x 224 is the published window. Eval mode.
"""

import zlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
STRIDED_POOLS = {
    "MaxPool3d_2a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_3a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_4a_3x3": ((3, 3, 3), (2, 2, 2)),
    "MaxPool3d_5a_2x2": ((2, 2, 2), (2, 2, 2)),
}
MIXED = [f"Mixed_{name}" for name in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")]
ENDPOINTS = [
    *("Conv3d_1a_7x7", "MaxPool3d_2a_3x3", "Conv3d_2b_1x1", "Conv3d_2c_3x3", "MaxPool3d_3a_3x3"),
    *(*MIXED[:2], "MaxPool3d_4a_3x3", *MIXED[2:7], "MaxPool3d_5a_2x2", *MIXED[7:]),
]
EXCHANGES = {"Mixed_3b": "l1", "Mixed_4d": "l2", "Mixed_5c": "l3"}


def rebuilt_state(shapes: dict[str, tuple[int, ...]]) -> State:
    """A state dict whose tensors depend on nothing but their names and shapes."""
    return {name: torch.from_numpy(_rebuilt(name, tuple(shape))) for name, shape in shapes.items()}


def _rebuilt(name, shape):
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith(("running_var", "bn.weight")):
        return random.uniform(0.5, 1.5, shape)
    scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
    return random.standard_normal(shape) * scale


def rebuilt_clips(batch, frames, size):
    random = np.random.RandomState(7)
    clip = [torch.from_numpy(random.uniform(-1, 1, (batch, channels, frames, size, size))) for channels in (3, 2)]
    return clip[0], clip[1]


def _same_pad(x, kernel, stride):
    amounts = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        total = max(k - s, 0) if size % s == 0 else max(k - size % s, 0)
        amounts += [total // 2, total - total // 2]
    return F.pad(x, amounts)


def _pool(x, kernel, stride):
    return F.max_pool3d(_same_pad(x, kernel, stride), kernel, stride)


def _unit(state, name, x, stride=1):
    weight = state[f"{name}.conv3d.weight"]
    x = F.conv3d(_same_pad(x, weight.shape[2:], (stride,) * 3), weight, stride=stride)
    statistics = state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"]
    return F.relu(F.batch_norm(x, *statistics, state[f"{name}.bn.weight"], state[f"{name}.bn.bias"], eps=1e-3))


def _endpoint(state, trunk, name, x):
    if name in STRIDED_POOLS:
        return _pool(x, *STRIDED_POOLS[name])
    path = f"{trunk}.{name}"
    if name.startswith("Conv3d"):
        return _unit(state, path, x, stride=2 if name == "Conv3d_1a_7x7" else 1)
    b1 = _unit(state, f"{path}.b1b", _unit(state, f"{path}.b1a", x))
    b2 = _unit(state, f"{path}.b2b", _unit(state, f"{path}.b2a", x))
    b3 = _unit(state, f"{path}.b3b", _pool(x, (3, 3, 3), (1, 1, 1)))
    return torch.cat([_unit(state, f"{path}.b0", x), b1, b2, b3], dim=1)


def _embed(state, trunk, x):
    x = F.avg_pool3d(x, x.shape[2:], stride=1)
    return F.conv3d(x, state[f"{trunk}.logits.conv3d.weight"], state[f"{trunk}.logits.conv3d.bias"]).flatten(1)


def _trunk(state, trunk, x):
    for name in ENDPOINTS:
        x = _endpoint(state, trunk, name, x)
    return _embed(state, trunk, x)


def _head(state, head, x):
    for layer in ("fc1", "fc2"):
        x = torch.tanh(F.linear(x, state[f"{head}.{layer}.weight"], state[f"{head}.{layer}.bias"]))
    return F.linear(x, state[f"{head}.fc3.weight"], state[f"{head}.fc3.bias"])


def _exchanged(state, generator, x, other):
    parameters = F.conv3d(other, state[f"{generator}.weight"], state[f"{generator}.bias"])
    shift, scale = torch.chunk(parameters, 2, dim=1)
    mean = torch.mean(x, [1, 2, 3, 4], True).repeat(1, *x.shape[1:])
    std = torch.std(x, [1, 2, 3, 4], keepdim=True).add(1e-8).repeat(1, *x.shape[1:])
    return x + ((x - mean) / std) * scale + shift


def published_logits(method: str, state: State, rgb: Tensor, flow: Tensor, sequential: bool = False) -> Tensor:
    """What the published network of this name computes; `sequential` is X-Norm's 2022 version."""
    if method == "rgb":
        return _head(state, "rgb_out", _trunk(state, "rgb_enc", rgb))
    if method == "flow":
        return _head(state, "flow_out", _trunk(state, "flow_enc", flow))
    if method == "early":
        return _head(state, "out", torch.cat([_trunk(state, "rgb_enc", rgb), _trunk(state, "flow_enc", flow)], dim=1))
    for name in ENDPOINTS:
        rgb, flow = _endpoint(state, "rgb_enc", name, rgb), _endpoint(state, "flow_enc", name, flow)
        if method == "xnorm" and name in EXCHANGES:
            new_rgb = _exchanged(state, f"rgb2flow_{EXCHANGES[name]}", rgb, flow)
            flow = _exchanged(state, f"flow2rgb_{EXCHANGES[name]}", flow, new_rgb if sequential else rgb)
            rgb = new_rgb
    rgb, flow = _embed(state, "rgb_enc", rgb), _embed(state, "flow_enc", flow)
    return 0.5 * _head(state, "rgb_out", rgb) + 0.5 * _head(state, "flow_out", flow)
