"""The CRC of a whole is that of its pieces, joined."""

from crc32c import crc32c
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.format.crc import join_crcs


@given(st.lists(st.binary(max_size=2000), max_size=12))
@example([b"123456789"])  # whose CRC-32C is e3069283 (RFC 3720, B.4 has others)
@example([b"", bytes(70_000), b"\xff", b""])
def test_joined_crcs_are_the_crc_of_the_whole(pieces: list[bytes]) -> None:
    joined = join_crcs([crc32c(piece) for piece in pieces], [len(piece) for piece in pieces])
    assert joined == crc32c(b"".join(pieces))


def test_lengths_beyond_what_fits_into_memory_are_joined_as_well() -> None:
    crc, length = crc32c(bytes(8)), 8
    for _ in range(30):  # zeros and as many zeros, to 8 GiB
        crc, length = join_crcs([crc, crc], [length, length]), 2 * length
    parts = [2**33 - 8, 8]
    first = crc32c(bytes(8))
    for bits in range(3, 33):  # 8 GiB less 8: of 8, 16, 32 ... bytes, one after the other
        first = first if bits == 3 else join_crcs([first, _zeros_crc(bits)], [2**bits - 8, 2**bits])
    assert join_crcs([first, crc32c(bytes(8))], parts) == crc


def _zeros_crc(bits: int) -> int:
    crc, length = crc32c(bytes(8)), 8
    while length < 2**bits:
        crc, length = join_crcs([crc, crc], [length, length]), 2 * length
    return crc
