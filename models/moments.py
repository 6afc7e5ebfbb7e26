"""MISA's losses on representations: difference (orthogonality) and central moment discrepancy, in fp32."""

import torch
from torch import Tensor

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
