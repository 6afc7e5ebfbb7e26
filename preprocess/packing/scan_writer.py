"""JPEG Huffman encoding: the best code of tokens (ITU-T T.81, annex K.2), and a scan of them. Compiled."""

import numpy as np

from pipeline.decoders.jpeg_stream import Bytes, compiled
from preprocess.packing.scan_reader import RESTART, Integers, Tokens


@compiled
def best_code(tokens: Tokens) -> tuple[Bytes, Bytes, Tokens, int]:
    """The code for which the tokens take the least room.

    Returns:
        Of each table the number of codes by length [8, 16] and their symbols [8, 256]; code << 8 | length by table and
        symbol [8 * 256]; the sum of all bits.
    """
    frequencies = np.zeros(9 * 256, np.int64)
    for token in tokens:
        frequencies[token >> 16] += 1
    counts, values = np.zeros((8, 16), np.uint8), np.zeros((8, 256), np.uint8)
    codes = np.zeros(8 * 256, np.uint32)
    num_bits = 0
    for table in range(8):
        frequency = frequencies[table * 256 : table * 256 + 256]
        if frequency.sum() == 0:
            continue
        _choose_lengths(frequency, counts[table], values[table])
        code = first = 0
        for length in range(1, 17):
            for symbol in values[table, first : first + counts[table, length - 1]]:
                codes[table * 256 + symbol] = code << 8 | length
                num_bits += frequency[symbol] * (length + (symbol & 15))
                code += 1
            first += counts[table, length - 1]
            code <<= 1
    num_bits += 8 * 4 * (frequencies[8 * 256] + 1)  # markers and the padding before them
    return counts, values, codes, num_bits


@compiled
def _choose_lengths(frequency: Integers, counts: Bytes, values: Bytes) -> None:
    """Huffman code of at most 16 bits, none all ones (ITU-T T.81, figures K.1 to K.4)."""
    symbols, weight = np.zeros(257, np.int64), np.zeros(257, np.int64)
    num = 0
    for symbol in range(256):
        if frequency[symbol] > 0:
            symbols[num], weight[num] = symbol, frequency[symbol]
            num += 1
    weight[num] = 1  # the code of all ones; the last, so the longest
    others, size = np.full(num + 1, -1), np.zeros(num + 1, np.int64)
    for _ in range(num):
        least = second = -1
        for item in range(num + 1):
            if weight[item] == 0:
                continue
            if least < 0 or weight[item] <= weight[least]:
                least, second = item, least
            elif second < 0 or weight[item] <= weight[second]:
                second = item
        weight[least] += weight[second]
        weight[second] = 0
        item = least
        size[item] += 1
        while others[item] >= 0:
            item = others[item]
            size[item] += 1
        others[item] = second
        item = second
        while item >= 0:
            size[item] += 1
            item = others[item]
    lengths = np.zeros(258, np.int64)
    for item in range(num + 1):
        lengths[size[item]] += 1
    for length in range(257, 16, -1):
        while lengths[length] > 0:
            shorter = length - 2
            while lengths[shorter] == 0:
                shorter -= 1
            lengths[length] -= 2
            lengths[length - 1] += 1
            lengths[shorter + 1] += 2
            lengths[shorter] -= 1
    longest = 16
    while lengths[longest] == 0:
        longest -= 1
    lengths[longest] -= 1
    counts[:] = lengths[1:17]
    found = 0
    for length in range(1, 258):
        for item in range(num):
            if size[item] == length:
                values[found] = symbols[item]
                found += 1


@compiled
def write_scan(tokens: Tokens, codes: Tokens, num_bits: int) -> Bytes:
    """The tokens in these codes, with restart markers, without a marker at the end."""
    out = np.empty(2 * (num_bits // 8 + 8), np.uint8)  # each byte may be ff, which a zero follows
    bits = count = written = restarts = 0
    for token in tokens:
        if token == RESTART:
            written = _write_bytes(bits << 7 | 127, count + 7, out, written)  # the padding is ones
            out[written], out[written + 1] = 0xFF, 0xD0 + restarts % 8
            written += 2
            restarts += 1
            count = 0
            continue
        code = np.int64(codes[np.uintp(token >> 16)])
        size = np.int64(token >> 16) & 15
        bits = ((bits << (code & 255)) | code >> 8) << size | np.int64(token & 0xFFFF)
        count += (code & 255) + size
        if count >= 32:
            word = (bits >> (count - 32)) & 0xFFFFFFFF
            if ((word & 0x7F7F7F7F) + 0x01010101) & word & 0x80808080:  # one of its bytes is ff
                written = _write_bytes(bits, count, out, written)
                count &= 7
            else:
                for shift in (24, 16, 8, 0):
                    out[np.uintp(written)] = (word >> shift) & 255
                    written += 1
                count -= 32
    written = _write_bytes(bits << 7 | 127, count + 7, out, written)
    return out[:written]


@compiled
def _write_bytes(bits: int, count: int, out: Bytes, written: int) -> int:
    """Write the whole bytes of the lowest `count` bits."""
    while count >= 8:
        count -= 8
        byte = (bits >> count) & 255
        out[np.uintp(written)] = byte
        written += 1
        if byte == 0xFF:
            out[np.uintp(written)] = 0
            written += 1
    return written
