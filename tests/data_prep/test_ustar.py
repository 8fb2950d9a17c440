import io
import tarfile

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
