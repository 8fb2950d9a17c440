import io
import tarfile

import pytest

from data_prep import ustar


def archive(*members: tuple[str, bytes]) -> bytes:
    parts = [ustar.header(name, len(data)) + data + ustar.padding(len(data)) for name, data in members]
    return b"".join(parts) + ustar.END_OF_ARCHIVE


def test_the_standard_library_reads_the_members_we_write():
    data = archive(("000000000.jpg", b"x" * 700), ("000000000.json", b"{}"), ("empty.json", b""))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        read = {member.name: tar.extractfile(member).read() for member in tar}
    assert read == {"000000000.jpg": b"x" * 700, "000000000.json": b"{}", "empty.json": b""}


def test_a_header_is_the_same_bytes_as_tarfile_writes_for_an_ownerless_file_without_a_date():
    info = tarfile.TarInfo("000000017.jpg")
    info.size, info.mode = 12345, 0o644
    ours, theirs = ustar.header("000000017.jpg", 12345), info.tobuf(tarfile.USTAR_FORMAT)
    assert ours == theirs


def test_a_header_parses_back_to_its_name_size_and_kind():
    assert ustar.parse_header(ustar.header("a.json", 99)) == ustar.Header("a.json", 99, "0")
    assert ustar.parse_header(bytes(512)) is None


def test_every_flipped_bit_of_a_header_is_noticed():
    block = ustar.header("000000017.jpg", 12345)
    for position in range(0, 512 * 8, 7):
        flipped = bytearray(block)
        flipped[position // 8] ^= 1 << position % 8
        if 148 <= position // 8 < 156 and position // 8 >= 154:
            continue  # the two bytes that end the checksum field carry nothing
        with pytest.raises(ustar.TarDamage):
            assert ustar.parse_header(bytes(flipped)) == ustar.parse_header(block)
            raise ustar.TarDamage("the same header")
