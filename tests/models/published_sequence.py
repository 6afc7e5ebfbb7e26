"""MISA and MulT behind their trunks, written down plainly: recurrence and attention step by step, no module of torch.

Functions of a state dict with the published names and of both trunks' last features [B, C, T, H, W]; eval mode. MulT's
summary is the last token.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


def misa_outputs(state: State, rgb: Tensor, flow: Tensor) -> dict[str, Tensor]:
    """MISA's logits and its auxiliary terms, unweighted: diff, cmd and recon."""
    vectors = [_vector(state, number, features) for number, features in (("1", rgb), ("2", flow))]
    private = [_linear(state, f"private_{n}.0", x).sigmoid() for n, x in zip("12", vectors, strict=True)]
    shared = [_linear(state, "shared.0", x).sigmoid() for x in vectors]
    rebuilt = [_linear(state, f"recon_{n}", p + s) for n, p, s in zip("12", private, shared, strict=True)]
    fused = _encoder_layer(state, torch.stack([*private, *shared], dim=1))  # [B, 4, hidden_size]
    hidden = F.relu(_linear(state, "fusion.0", fused.flatten(1)))
    return {
        "logits": _linear(state, "fusion.3", hidden),
        "diff": sum(_difference(*pair) for pair in ((private[0], shared[0]), (private[1], shared[1]), private)),
        "cmd": _moments_apart(*shared),
        "recon": sum(((r - x) ** 2).mean() for r, x in zip(rebuilt, vectors, strict=True)) / 2,
    }


def mult_logits(state: State, rgb: Tensor, flow: Tensor, heads: int = 5) -> Tensor:
    """MulT's logits."""
    tokens = [  # a convolution over one token is a linear map
        x.flatten(2).transpose(1, 2) @ state[f"proj_{n}.weight"][:, :, 0].T for n, x in (("1", rgb), ("2", flow))
    ]
    crossed = (
        _transformer(state, "trans_1_with_2", tokens[0], tokens[1], heads),
        _transformer(state, "trans_2_with_1", tokens[1], tokens[0], heads),
    )
    last = [_transformer(state, f"trans_{n}_mem", x, None, heads)[:, -1] for n, x in zip("12", crossed, strict=True)]
    summary = torch.cat(last, dim=1)
    return _linear(state, "out_layer", summary + _linear(state, "proj2", F.relu(_linear(state, "proj1", summary))))


def _vector(state, number, features):
    tokens = features.flatten(2).permute(2, 0, 1)  # [L, B, C]
    states, first = _both_ways(state, f"rnn_{number}1", tokens)
    _, second = _both_ways(state, f"rnn_{number}2", _norm(state, f"layer_norm_{number}", states))
    final = torch.cat([first[0], second[0], first[1], second[1]], dim=1)
    return _norm(state, f"project_{number}.2", F.relu(_linear(state, f"project_{number}.0", final)))


def _both_ways(state, name, tokens):
    forward, backward = _recur(state, name, "", tokens), _recur(state, name, "_reverse", tokens.flip(0))
    return torch.cat([forward, backward.flip(0)], dim=2), (forward[-1], backward[-1])


def _recur(state, name, suffix, tokens):
    """An LSTM's hidden states [L, B, C] (Hochreiter and Schmidhuber, 1997; gates in torch's order i, f, g, o)."""
    weights = [state[f"{name}.{kind}_l0{suffix}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    hidden = cell = tokens.new_zeros(tokens.shape[1], weights[1].shape[1])
    states = []
    for token in tokens:
        gates = token @ weights[0].T + hidden @ weights[1].T + weights[2] + weights[3]
        take, keep, new, show = gates.chunk(4, dim=1)
        cell = keep.sigmoid() * cell + take.sigmoid() * new.tanh()
        hidden = show.sigmoid() * cell.tanh()
        states.append(hidden)
    return torch.stack(states)


def _encoder_layer(state, x):
    """One layer of Vaswani et al. (2017), normalised behind each half, two heads, over [B, L, size]."""
    name = "transformer_encoder.layers.0"
    x = _norm(state, f"{name}.norm1", x + _attention(state, f"{name}.self_attn", x, x, heads=2, causal=False))
    hidden = F.relu(_linear(state, f"{name}.linear1", x))
    return _norm(state, f"{name}.norm2", x + _linear(state, f"{name}.linear2", hidden))


def _transformer(state, name, tokens, memory, heads):
    x, memory = _placed(tokens), None if memory is None else _placed(memory)
    for layer in sorted({key.split(".")[2] for key in state if key.startswith(f"{name}.layers.")}):
        path = f"{name}.layers.{layer}"
        query = _norm(state, f"{path}.layer_norms.0", x)
        source = query if memory is None else _norm(state, f"{path}.layer_norms.0", memory)
        x = x + _attention(state, f"{path}.self_attn", query, source, heads, causal=True)
        hidden = F.relu(_linear(state, f"{path}.fc1", _norm(state, f"{path}.layer_norms.1", x)))
        x = x + _linear(state, f"{path}.fc2", hidden)
    return _norm(state, f"{name}.layer_norm", x)


def _attention(state, name, query, memory, heads, causal):
    weights, biases = state[f"{name}.in_proj_weight"].chunk(3), state[f"{name}.in_proj_bias"].chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((query, memory, memory), weights, biases, strict=True))
    results = []
    for qh, kh, vh in zip(q.chunk(heads, 2), k.chunk(heads, 2), v.chunk(heads, 2), strict=True):
        scores = qh @ kh.transpose(1, 2) / math.sqrt(qh.shape[2])
        if causal:
            later = torch.ones_like(scores, dtype=torch.bool).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        results.append(scores.softmax(dim=2) @ vh)
    return _linear(state, f"{name}.out_proj", torch.cat(results, dim=2))


def _placed(tokens):
    """Tokens [B, L, size] times the root of their size, plus sines and cosines of their positions from 1."""
    _, length, size = tokens.shape
    half = size // 2
    place = torch.zeros(length, size, dtype=tokens.dtype)
    for position in range(length):
        for i in range(half):
            angle = (position + 1) * 10000 ** (-i / (half - 1))
            place[position, i], place[position, half + i] = math.sin(angle), math.cos(angle)
    return tokens * math.sqrt(size) + place


def _difference(first, second):
    centred = [x - x.mean(dim=0) for x in (first, second)]
    rows = [x / (x.detach().norm(dim=1, keepdim=True) + 1e-6) for x in centred]
    return ((rows[0].T @ rows[1]) ** 2).mean()


def _moments_apart(first, second):
    means = first.mean(dim=0), second.mean(dim=0)
    apart = ((means[0] - means[1]) ** 2).sum().sqrt()
    for order in range(2, 6):
        moments = [((x - mean) ** order).mean(dim=0) for x, mean in zip((first, second), means, strict=True)]
        apart = apart + ((moments[0] - moments[1]) ** 2).sum().sqrt()
    return apart


def _linear(state, name, x):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _norm(state, name, x):
    centred = x - x.mean(dim=-1, keepdim=True)
    deviation = ((centred**2).mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    return centred / deviation * state[f"{name}.weight"] + state[f"{name}.bias"]
