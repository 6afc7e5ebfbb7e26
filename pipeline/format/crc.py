"""CRC-32C of joined pieces from those of the pieces, so that each byte is summed once."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Crcs = NDArray[np.uint32]
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reflected


def join_crcs(crcs: Sequence[int] | Crcs, lengths: Sequence[int] | NDArray[np.int64]) -> int:
    """The CRC of pieces one after the other, of the CRC and the length of each.

    A CRC is linear: that of A and B is the CRC of A, moved on by as many zero bytes as B has, xor that of B (as zlib's
    crc32_combine does for two).
    """
    sizes = np.asarray(lengths, np.int64)
    following = sizes.sum() - sizes.cumsum()  # bytes after each piece
    moved = np.asarray(crcs, np.uint32)
    for power in range(int(following.max(initial=0)).bit_length()):
        moved = np.where(following >> power & 1, _apply(_zeros(power), moved), moved)
    return int(np.bitwise_xor.reduce(moved))


@cache
def _zeros(power: int) -> Crcs:
    """What 2^power zero bytes make of a CRC: by each of its bytes, from the lowest, [4, 256], to be joined by xor."""
    if power:
        half = _zeros(power - 1)
        return _apply(half, half)
    crcs = np.arange(256, dtype=np.uint32) << np.arange(0, 32, 8, dtype=np.uint32)[:, None]
    for _ in range(8):
        crcs = (crcs >> 1) ^ np.where(crcs & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    return crcs


def _apply(table: Crcs, crcs: Crcs) -> Crcs:
    moved: Crcs = table[0][crcs & 255] ^ table[1][crcs >> 8 & 255] ^ table[2][crcs >> 16 & 255] ^ table[3][crcs >> 24]
    return moved
