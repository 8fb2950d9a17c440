import os

import numpy as np
import pytest

from configs.errors import DataError
from data_prep import verify
from data_prep.shards import ShardSet

SHARD = "000001.tar"


def check(capsys, *arguments) -> tuple[int, str]:
    """(exit code, output) of a verification."""
    try:
        verify.main([str(argument) for argument in arguments])
        return 0, capsys.readouterr().out
    except SystemExit as stop:
        return int(stop.code or 0), capsys.readouterr().out


def test_a_whole_set_passes_both_checks(built, capsys):
    assert check(capsys, built.folder) == (
        0,
        f"{built.folder}: 12 samples in 3 shards: OK (sizes and index; --full also reads every byte)\n",
    )
    assert check(capsys, built.folder, "--full")[0] == 0
    assert check(capsys, built.folder, "--full", "--processes", 2)[0] == 0


def test_no_set_is_a_user_error(tmp_path, capsys):
    assert check(capsys, tmp_path)[0] == 2


def test_a_url_is_checked_where_it_lies(capsys):
    with pytest.raises(SystemExit):
        verify.main(["https://data.example/shards/pets"])
    assert "is a URL; check it where it is stored" in capsys.readouterr().err


def flip(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :]


def damages(shards: ShardSet) -> dict[str, bytes | None]:
    """Ten ways to damage a tar, of which plain streaming readers notice four, applied to the second shard."""
    data = (shards.folder / SHARD).read_bytes()
    second = shards.index[6]
    image, text = int(second["image_offset"]), int(second["json_offset"])
    return {
        "20 cut in data": data[: image + 100],
        "21 cut in a header": data[: image - 200],
        "22 cut at a sample boundary": data[: image - 512],
        "23 cut between image and json": data[: text - 512],
        "24 bit flip in a header": flip(data, image - 512 + 126),
        "25 zeroed blocks": data[: image - 512] + bytes(4 * 512) + data[image + 3 * 512 :],
        "26 bit flip in a payload": flip(data, image + int(second["image_size"]) // 2),
        "27 empty file": b"",
        "28 missing file": None,
        "29 garbage of the same size": np.random.default_rng(0).bytes(len(data)),
    }


QUICK = {
    "20 cut in data",
    "21 cut in a header",
    "22 cut at a sample boundary",
    "23 cut between image and json",
    "27 empty file",
    "28 missing file",
}


@pytest.mark.slow
@pytest.mark.parametrize("row", range(20, 30))
def test_each_of_ten_damages_is_found_named_and_never_a_shorter_epoch(built, capsys, row):
    name, data = next(item for item in damages(built).items() if item[0].startswith(str(row)))
    shard = built.folder / SHARD
    shard.unlink()
    if data is not None:
        shard.write_bytes(data)
    code, out = check(capsys, built.folder)
    assert (code == 1) == (name in QUICK)
    code, out = check(capsys, built.folder, "--full")
    assert code == 1
    assert str(shard) in out
    if name not in QUICK:
        assert "sha256 differs" in out
        assert "sample 6, " in out
    if name in QUICK:
        with pytest.raises(DataError, match=SHARD):
            ShardSet.open(built.folder)
    else:
        again = ShardSet.open(built.folder)
        assert len(again) == 12
        read = 0
        for sample in range(12):
            try:
                assert again.sample(sample).id == built_ids()[sample]
                read += 1
            except DataError as error:
                assert SHARD in str(error)
        # a header is not needed to read, so its damage loses nothing
        assert read == {24: 12, 25: 11, 26: 11}.get(row, 7)


def built_ids() -> list[str]:
    return [f"pets/{name}/{number}" for name in ("cat", "wild_dog") for number in range(6)]


def test_the_finding_names_where_the_damage_is(built, capsys):
    shard = built.folder / SHARD
    offset = int(built.index[6]["image_offset"])
    shard.write_bytes(flip(shard.read_bytes(), offset - 512 + 126))
    out = check(capsys, built.folder, "--full")[1]
    size = int(built.index[6]["image_size"])
    assert f"sample 6, header at byte {offset - 512}: it is not that of a .jpg of {size} bytes" in out


def test_every_flipped_bit_of_a_header_is_found(built):
    offset, size = int(built.index[6]["image_offset"]), int(built.index[6]["image_size"])
    with (built.folder / SHARD).open("r+b", buffering=0) as shard:
        assert verify._check_header(shard.fileno(), "jpg", offset, size) is None
        for bit in range(512 * 8):
            place = offset - 512 + bit // 8
            (byte,) = os.pread(shard.fileno(), 1, place)
            os.pwrite(shard.fileno(), bytes([byte ^ 1 << bit % 8]), place)
            assert verify._check_header(shard.fileno(), "jpg", offset, size), bit
            os.pwrite(shard.fileno(), bytes([byte]), place)


def test_a_changed_index_is_found(built, capsys):
    index = np.load(built.folder / "index.npy")
    index["label"][3] = 1
    np.save(built.folder / "index.npy", index)
    code, out = check(capsys, built.folder)
    assert code == 1
    assert "index.npy: its sha256 differs" in out


def test_an_image_that_does_not_decode_is_found_although_all_checksums_agree(
    class_folders, write_config, capsys, tmp_path
):
    from data_prep import build

    victim = class_folders / "cat" / "3.jpg"
    victim.write_bytes(victim.read_bytes()[:-20])
    build.main(["--config", str(write_config(class_folders, decode_check="false"))])
    code, out = check(capsys, tmp_path / "shards/pets", "--full")
    assert code == 1
    assert "sample 3, does not decode" in out


def test_deleting_a_damaged_shard_and_building_again_repairs_the_set(built, class_folders, write_config, capsys):
    from data_prep import build

    shard = built.folder / SHARD
    whole = shard.read_bytes()
    shard.write_bytes(flip(whole, 700))
    assert check(capsys, built.folder, "--full")[0] == 1
    shard.unlink()
    build.main(["--config", str(write_config(class_folders))])
    assert shard.read_bytes() == whole
    assert check(capsys, built.folder, "--full")[0] == 0
