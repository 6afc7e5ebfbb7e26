"""JPEG Huffman decoding: a scan as tokens, and whether another holds the same. Compiled.

A token is a code to be written: Huffman table << 24 | symbol << 16 | the bits that follow it. Tables 0 to 3 are for DC
differences, 4 to 7 for AC coefficients. Both jobs share code, so that they share a file: see `compiled`.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.decoders.jpeg_stream import Bytes, compiled

Tokens = NDArray[np.uint32]
Integers = NDArray[np.int64]
Tables = NDArray[np.int32]  # [8 * WIDTH], see _expand_tables

ERRORS = {
    -1: "has a Huffman table that is not a code",
    -2: "has a code in its scan that its tables do not have, or a value that is too large",
    -3: "has a scan that is cut off or has bytes left over",
    -4: "has another marker in its scan than belongs there",
}
WIDTH, LIMITS, OFFSETS, SYMBOLS = 512 + 17 + 17 + 256, 512, 512 + 17, 512 + 17 + 17  # of and in one of Tables
_NO_CODE, _NO_SYMBOL, _CUT_OFF, _MARKER = -1, -2, -3, -4
RESTART = np.uint32(8 << 24)  # among tokens: here a restart marker is to stand
SLACK = 10 * 64 * 4 + 8  # bytes that an MCU can take, and a word: whether it lies within the scan is seen after it


@compiled
def read_scan(
    jpeg: Bytes,
    position: int,
    shape: tuple[int, int, int, int, int],
    fields: Integers,
    positions: Integers,
    tokens: Tokens,
) -> int:
    """Read the scan to `tokens`; their number, or one of ERRORS.

    Args:
        jpeg: the whole file.
        position: of the scan's first byte.
        shape: rows of MCUs, MCUs a row, as many as there are to be (the others are empty), MCUs between markers, and
            as many as there are to be.
        fields, positions: of each channel and of each Huffman table, as `walk_header` found them.
        tokens: room for all of them; DC differences are those of the new intervals.
    """
    rows, per_row, wide_row, interval, new_interval = shape
    if interval == 0:
        interval = rows * per_row
    num_segments = -(-rows * per_row // interval)
    if 2 * num_segments > len(jpeg):  # a marker each
        return _CUT_OFF
    ends = np.zeros(num_segments, np.int64)
    clean = np.empty(len(jpeg) - position + SLACK, np.uint8)
    tables = np.zeros(8 * WIDTH, np.int32)
    if not _expand_tables(jpeg, positions, tables):
        return _NO_CODE
    error = _unstuff(jpeg, position, clean, ends)
    if error < 0:
        return error
    predicted, previous = np.zeros(4, np.int64), np.zeros(4, np.int64)
    bit = mcu = written = segment = 0  # `bit` is a position in the scan
    for new_mcu in range(rows * wide_row):
        if new_mcu % new_interval == 0:
            previous[:] = 0
            if new_mcu > 0:
                tokens[written] = RESTART
                written += 1
        if new_mcu % wide_row >= per_row:  # as bright as what lies before
            written = _write_empty(fields, tokens, written)
            continue
        if mcu == interval:
            if not 0 <= ends[segment] - bit < 8:
                return _CUT_OFF
            bit = ends[segment]
            segment += 1
            mcu = 0
            predicted[:] = 0
        for channel in range(len(fields)):
            for _ in range(fields[channel, 0] * fields[channel, 1]):
                dc, ac = fields[channel, 2], 4 + fields[channel, 3]
                bit, difference = _read_dc(clean, bit, tables, dc)
                if bit < 0:
                    return bit
                predicted[channel] += difference
                difference = predicted[channel] - previous[channel]
                previous[channel] = predicted[channel]
                if abs(difference) > 2047 or abs(predicted[channel]) > 2047:
                    return _NO_SYMBOL
                tokens[written] = _dc_token(dc, difference)
                bit, written = _read_ac(clean, bit, tables, ac, tokens, written + 1)
                if bit < 0:
                    return bit
        if bit > ends[segment]:
            return _CUT_OFF
        mcu += 1
    return written if ends[segment] - bit < 8 else _CUT_OFF


@compiled
def _write_empty(fields: Integers, tokens: Tokens, written: int) -> int:
    for channel in range(len(fields)):
        for _ in range(fields[channel, 0] * fields[channel, 1]):
            tokens[written] = fields[channel, 2] << 24
            tokens[written + 1] = (4 + fields[channel, 3]) << 24
            written += 2
    return written


@compiled
def _read_dc(clean: Bytes, bit: int, tables: Tables, table: int) -> tuple[int, int]:
    """The bit after a DC difference, and its value."""
    word, shift = _word(clean, bit >> 3), 64 - (bit & 7)
    size, length = _read_code(word, shift, tables, table)
    if length == 0 or size > 11:
        return _NO_SYMBOL, 0
    value = (word >> (shift - length - size)) & ((1 << size) - 1)
    if size > 0 and value >> (size - 1) == 0:
        value -= (1 << size) - 1
    return bit + length + size, value


@compiled
def _dc_token(table: int, difference: int) -> int:
    size, magnitude = 0, abs(difference)
    while magnitude >> size:
        size += 1
    return table << 24 | size << 16 | (difference + (1 << size) - 1 if difference < 0 else difference)


@compiled
def _read_ac(clean: Bytes, bit: int, tables: Tables, table: int, tokens: Tokens, written: int) -> tuple[int, int]:
    """The bit after a block's AC coefficients, and the number of tokens with theirs."""
    index = 1
    while index < 64:
        word, shift = _word(clean, bit >> 3), 64 - (bit & 7)  # `shift` bits from `bit` on
        symbol, length = _read_code(word, shift, tables, table)
        size = symbol & 15
        value = (word >> (shift - length - size)) & ((1 << size) - 1)
        bit += length + size
        if size > 0:
            index += symbol >> 4
            if index > 63 or length == 0:
                return _NO_SYMBOL, 0
        elif symbol == 0xF0:  # sixteen zeros
            index += 15
            if index > 62:
                return _NO_SYMBOL, 0
        elif symbol == 0 and length > 0:  # the rest is zero
            index = 64
        else:
            return _NO_SYMBOL, 0
        tokens[np.uintp(written)] = table << 24 | symbol << 16 | value
        written += 1
        index += 1
    return bit, written


@compiled
def _read_code(word: int, shift: int, tables: Tables, table: int) -> tuple[int, int]:
    """The symbol at the highest of `shift` bits, and the length of its code; of no code 0."""
    entry = np.int64(tables[np.uintp(table * WIDTH + ((word >> (shift - 9)) & 511))])
    if entry:
        return entry & 255, entry >> 8
    for length in range(10, 17):
        code = (word >> (shift - length)) & ((1 << length) - 1)
        if code < tables[table * WIDTH + LIMITS + length]:
            row = table * WIDTH + SYMBOLS + tables[table * WIDTH + OFFSETS + length] + code
            return np.int64(tables[row]), length
    return 0, 0


@compiled
def _word(clean: Bytes, position: int) -> int:
    """Eight bytes, the first of them the highest."""
    word = 0
    for number in range(8):
        word = word << 8 | np.int64(clean[np.uintp(position + number)])
    return word


@compiled
def _unstuff(jpeg: Bytes, position: int, clean: Bytes, ends: Integers) -> int:
    """Copy the scan unstuffed and without markers; note where segments end, in bits."""
    written = segment = 0
    end = len(jpeg) - 1
    while position < end:
        byte = jpeg[np.uintp(position)]
        follower = jpeg[np.uintp(position + 1)]
        if byte != 0xFF or follower == 0:
            clean[np.uintp(written)] = byte
            written += 1
            position += 2 if byte == 0xFF else 1
        elif follower == 0xFF:  # a fill byte
            position += 1
        else:
            if follower != (0xD9 if segment == len(ends) - 1 else 0xD0 + segment % 8):
                return _MARKER
            ends[segment] = 8 * written
            segment += 1
            position += 2
            if segment == len(ends):
                clean[written : written + SLACK] = 0
                return 0
    return _CUT_OFF


@compiled
def _expand_tables(jpeg: Bytes, positions: Integers, tables: Tables) -> bool:
    """Of each table, by the next 9 bits, length << 8 | symbol, or 0 where the code is longer.

    Of those, by length: the first number that is no code, and where the symbol of code 0 would be; then all symbols.
    False: the numbers of codes by length cannot be.
    """
    for number in range(8):
        if positions[number] == 0:
            continue
        table = tables[number * WIDTH : number * WIDTH + WIDTH]
        counts = positions[number]
        code = total = 0
        for length in range(1, 17):
            table[OFFSETS + length] = total - code
            if code + jpeg[counts + length - 1] > 1 << length:
                return False
            for _ in range(jpeg[counts + length - 1]):
                symbol = np.int64(jpeg[counts + 16 + total])
                table[SYMBOLS + total] = symbol
                if length <= 9:
                    begin = code << (9 - length)
                    table[begin : begin + (1 << (9 - length))] = length << 8 | symbol
                code += 1
                total += 1
            table[LIMITS + length] = code
            code <<= 1
    return True


@compiled
def holds_tokens(jpeg: Bytes, position: int, positions: Integers, tokens: Tokens) -> bool:
    """Whether a scan, by its own header's Huffman tables, reads as exactly these tokens.

    A code that a table has is read wherever its bits stand, so that to compare the bits is to decode them.
    """
    codes = np.zeros(8 * 256, np.uint32)
    for table in range(8):
        if positions[table] > 0:
            _list_codes(jpeg, positions[table], codes[table * 256 :])
    ends = np.zeros(1 + (tokens == RESTART).sum(), np.int64)
    clean = np.empty(len(jpeg) - position + SLACK, np.uint8)
    if _unstuff(jpeg, position, clean, ends) < 0:
        return False
    bit = segment = 0
    for token in tokens:
        if token == RESTART:
            if ends[segment] - bit >= 8:
                return False
            bit = ends[segment]
            segment += 1
            continue
        code, size = np.int64(codes[np.uintp(token >> 16)]), np.int64(token >> 16) & 15
        length = (code & 255) + size
        bits = (_word(clean, bit >> 3) >> (64 - (bit & 7) - length)) & ((1 << length) - 1)
        bit += length
        if bits != ((code >> 8) << size | np.int64(token & 0xFFFF)) or length == size or bit > ends[segment]:
            return False
    return bool(ends[segment] - bit < 8)


@compiled
def _list_codes(jpeg: Bytes, counts: int, codes: Tokens) -> None:
    """code << 8 | length by symbol, of the table whose counts stand there."""
    code = total = 0
    for length in range(1, 17):
        for _ in range(jpeg[counts + length - 1]):
            codes[jpeg[counts + 16 + total]] = code << 8 | length
            code += 1
            total += 1
        code <<= 1
