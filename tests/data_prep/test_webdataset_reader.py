import gzip
import io
import json
import pickle
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from configs.errors import DataError
from data_prep import build, tar_index, verify
from data_prep.file_paths import FilePaths
from data_prep.readers import webdataset
from data_prep.sample import Drop, Source
from data_prep.shards import ShardSet


def write_tar(path: Path, *members: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


def read(path: Path, **options) -> Source:
    return webdataset.read(FilePaths(str(path)), **options)


def drops(path: Path, **options) -> dict[str, str]:
    return {r.id: r.reason for r in read(path, **options).records if isinstance(r, Drop)}


def test_captions_and_class_numbers_are_read_from_tars_in_order(tmp_path, picture):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    write_tar(tmp_path / "b.tar", ("000.jpg", picture(2)), ("000.txt", b"two"), ("000.cls", b"1"))
    write_tar(tmp_path / "a.tar", ("x/1.PNG", picture(1)), ("x/1.txt", b"one\n"), ("x/1.cls", b"0"))
    records = list(read(tmp_path).records)
    assert [(record.id, record.turns[1].text) for record in records] == [("a/x/1", "one"), ("b/000", "two")]
    assert records[1].image() == picture(2)
    source = read(tmp_path, class_names=str(tmp_path / "names.txt"))
    assert [(record.label, record.label_name) for record in source.records] == [(0, "cat"), (1, "dog")]


def test_the_label_may_stand_in_json(tmp_path, picture):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    tar = write_tar(
        tmp_path / "a.tar", ("1.jpg", picture()), ("1.json", b'{"label": 1}'), ("2.jpg", b""), ("2.json", b"7")
    )
    options = {"class_names": str(tmp_path / "names.txt"), "label_field": "json"}
    assert next(iter(read(tar, **options).records)).label_name == "dog"
    assert drops(tar, **options)["a/2"].startswith("unreadable label: class index 7 is not below 2")


def test_our_own_shards_can_be_read_back(built, tmp_path):
    samples = [
        record
        for entry in built.manifest.shards
        for record in read(built.folder / entry.name, label_field="json", class_names=str(names(tmp_path))).records
    ]
    assert [sample.label for sample in samples] == built.labels.tolist()


def names(tmp_path: Path) -> Path:
    (tmp_path / "names.txt").write_text("cat\nwild dog\n")
    return tmp_path / "names.txt"


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("1.jpg", b"x"), ("1.jpg", b"y"), ("1.txt", b"t")], "repeated or scattered member"),
        ([("1.jpg", b"x"), ("2.jpg", b"y"), ("1.txt", b"t"), ("2.txt", b"t")], "repeated or scattered member"),
        ([("1.jpg", b"x")], "missing or doubled field: it has jpg"),
        ([("1.txt", b"x")], "missing or doubled field: it has txt"),
        ([("1.jpg", b"x"), ("1.png", b"y"), ("1.txt", b"t")], "missing or doubled field"),
        ([("../../1.jpg", b"x"), ("../../1.txt", b"t")], "unsafe name"),
        ([("/etc/1.jpg", b"x"), ("/etc/1.txt", b"t")], "unsafe name"),
        ([link("1.jpg", "/etc/passwd"), ("1.txt", b"t")], "not a file"),
        ([("1.jpg", b"x"), ("1.txt", b"t"), ("1.pyd", b"cos\nsystem\n")], "forbidden field"),
        ([("1.jpg", b"x"), ("1.txt", b"t"), ("1.a.pickle", b"")], "forbidden field"),
        ([("1.v1.jpg", b"x"), ("1.txt", b"t")], "ambiguous key"),
    ],
    ids=[
        "30-duplicate-member",
        "31-members-not-adjacent",
        "32-text-missing",
        "32-image-missing",
        "32-image-doubled",
        "36-climbing-key",
        "36-absolute-key",
        "36-symlink",
        "37-pyd-member",
        "37-pickle-member",
        "31-key-with-a-dot",
    ],
)
def test_a_sample_that_cannot_be_trusted_is_dropped_and_its_neighbour_stays(tmp_path, members, reason):
    tar = write_tar(tmp_path / "a.tar", *members, ("ok.jpg", b"x"), ("ok.txt", b"t"))
    found = drops(tar)
    assert found
    assert all(text.startswith(reason) for text in found.values())
    assert [r.id for r in read(tar).records if not isinstance(r, Drop)] == ["a/ok"]


def test_a_member_above_the_size_limit_is_dropped_without_being_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_index, "MAX_MEMBER", 10)
    tar = write_tar(tmp_path / "a.tar", ("1.jpg", b"x" * 11), ("1.txt", b"t"))
    assert drops(tar)["a/1"].startswith("too large: '1.jpg' has 11 bytes")


@pytest.mark.slow
def test_row_39_a_gz_bomb_is_refused_before_it_unfolds(tmp_path):
    bomb = tmp_path / "bomb.tar"
    with tarfile.open(bomb, "w:gz") as tar:
        info = tarfile.TarInfo("1.jpg")
        info.size = 200_000_000
        tar.addfile(info, Zeros())
    assert bomb.stat().st_size < 1_000_000
    tracemalloc.start()
    with pytest.raises(DataError, match=r"bomb\.tar is damaged or not a plain tar.*gunzip"):
        read(bomb)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


class Zeros:
    """As many zero bytes as are asked for."""

    def read(self, size: int) -> bytes:
        return bytes(size)


def test_row_37_a_pickled_member_is_never_unpickled(tmp_path):
    class Mine:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    payload = pickle.dumps(Mine())
    names = ("1.jpg", "1.txt", "1.pkl", "2.jpg", "2.pyd", "2.txt")
    tar = write_tar(tmp_path / "a.tar", *[(name, payload if name[2:] in ("pkl", "pyd") else b"x") for name in names])
    assert {key: text.partition(":")[0] for key, text in drops(tar).items()} == {
        "a/1": "forbidden field",
        "a/2": "forbidden field",
    }
    assert not (tmp_path / "ran").exists()


def test_row_36_nothing_is_written_outside_the_shards(tmp_path, write_config, capsys):
    members = [("../../out.jpg", b"x"), ("../../out.txt", b"t")]
    tar = write_tar(tmp_path / "in" / "a.tar", *members)
    build.main(["--config", str(write_config(tar, "webdataset", max_drop_fraction=1.0))])
    made = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert made == {"in", "shards", "config.yaml"}
    assert not (tmp_path.parent / "out.jpg").exists()


def test_a_compressed_tar_is_refused(tmp_path):
    tar = write_tar(tmp_path / "a.tar", ("1.jpg", b"x" * 5000))
    packed = tmp_path / "packed.tar"
    packed.write_bytes(gzip.compress(tar.read_bytes()))
    with pytest.raises(DataError, match=r"packed\.tar is damaged or not a plain tar"):
        read(packed)


@pytest.mark.parametrize("path", ["pipe:touch {0}/made", "{0}/a.tar::pipe:touch {0}/made", "{0}/list.txt", "ssh://h/x"])
def test_row_38_a_pipe_is_refused_and_nothing_runs(tmp_path, write_config, capsys, path):
    write_tar(tmp_path / "a.tar")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a.tar\npipe:touch {tmp_path}/made\n")
    with pytest.raises(SystemExit):
        build.main(["--config", str(write_config(f"'{path.format(tmp_path)}'", "webdataset"))])
    assert "URLs are not opened" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def flip(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:2600],  # inside data
        lambda data: data[:2300],  # inside a header
        lambda data: data[:4096],  # at a sample boundary
        lambda data: data[:3072],  # between image and text
        lambda data: flip(data, 2048 + 126),
        lambda data: data[:2048] + bytes(2048) + data[4096:],
        lambda data: b"",
        lambda data: b"\x5a" * len(data),
    ],
    ids=["data", "header", "boundary", "between", "flip", "zeroed", "empty", "garbage"],
)
def test_a_damaged_tar_is_an_error_and_never_a_shorter_source(tmp_path, damage):
    members = [(f"{n}.{field}", b"x" * 200) for n in range(4) for field in ("jpg", "txt")]
    tar = write_tar(tmp_path / "a.tar", *members)
    assert len(list(read(tar).records)) == 4
    tar.write_bytes(damage(tar.read_bytes()))
    with pytest.raises(DataError, match=r"a\.tar"):
        read(tar)


def test_an_adopted_tar_builds_into_shards_with_the_same_bytes(tmp_path, picture, write_config):
    tar = write_tar(
        tmp_path / "a.tar",
        *[m for n in range(7) for m in ((f"{n}.jpg", picture(n)), (f"{n}.txt", b"a picture"))],
    )
    build.main(["--config", str(write_config(tar, "webdataset")), "--processes", "2"])
    shards = ShardSet.open(tmp_path / "shards/pets")
    assert [shards.sample(n).image for n in range(7)] == [picture(n) for n in range(7)]


@pytest.fixture
def in_place(tmp_path, picture, write_config) -> ShardSet:
    """Two tars of four pictures, referenced without copying."""
    for name in ("a", "b"):
        members = [m for n in range(4) for m in ((f"{n}.jpg", picture(n + 4 * (name == "b"))), (f"{n}.txt", b"text"))]
        write_tar(tmp_path / "foreign" / f"{name}.tar", *members)
    build.main(
        ["--config", str(write_config(tmp_path / "foreign", "webdataset", "{copy: false}", samples_per_shard=3))]
    )
    return ShardSet.open(tmp_path / "shards/pets")


def test_tars_can_be_adopted_without_copying_an_image(in_place, picture, tmp_path, capsys):
    assert [in_place.sample(n).image for n in range(8)] == [picture(n) for n in range(8)]
    assert [file.path for file in in_place.manifest.files] == [str(tmp_path / f"foreign/{x}.tar") for x in "ab"]
    assert in_place.index["image_file"].tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    with tarfile.open(in_place.folder / "000001.tar") as tar:
        assert [name.partition(".")[2] for name in tar.getnames()] == ["json"] * 3
    verify.main([str(in_place.folder), "--full"])
    assert "8 samples in 3 shards: OK" in capsys.readouterr().out


def test_a_change_in_an_adopted_tar_is_noticed(in_place, tmp_path, write_config, capsys):
    tar = tmp_path / "foreign" / "b.tar"
    whole = tar.read_bytes()
    place = int(in_place.index["image_offset"][5])
    tar.write_bytes(flip(whole, place + 200))
    with pytest.raises(DataError, match=r"sample 5 .*damaged"):
        ShardSet.open(in_place.folder).sample(5)
    tar.unlink()
    with pytest.raises(DataError, match=r"foreign/b\.tar is missing"):
        ShardSet.open(in_place.folder)


def test_a_moved_adopted_tar_needs_a_rebuild_and_keeps_the_samples(in_place, tmp_path, write_config, capsys, picture):
    (tmp_path / "foreign").rename(tmp_path / "moved")
    config = write_config(tmp_path / "moved", "webdataset", "{copy: false}", samples_per_shard=3)
    with pytest.raises(SystemExit):
        build.main(["--config", str(config)])
    assert "from other records" in capsys.readouterr().err
    build.main(["--config", str(config), "--rebuild"])
    again = ShardSet.open(in_place.folder)
    assert again.sample(7).image == picture(7)
    assert again.fingerprint == in_place.fingerprint


@pytest.mark.parametrize(
    ("label", "expected"),
    [("1", 1), ("goldfish", 1), ("n01443537", 1), ('{"label": 1}', 1), ('"1"', 1), ("0\n", 0)],
)
def test_a_label_is_an_index_a_key_or_a_name(label, expected, tmp_path, picture):
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"names": ["tench", "goldfish"], "keys": ["n01440764", "n01443537"]}))
    tar = write_tar(tmp_path / "a.tar", *{"0.jpg": picture(), "0.cls": label.encode()}.items())
    (record,) = read(tar, class_names=str(names)).records
    assert record.label == expected


@pytest.mark.parametrize("label", ["1.7", "true", "null", "2", "-1", "shark", "[1]", '{"name": 1}'])
def test_a_label_that_is_no_class_is_named(label, tmp_path, picture):
    names = tmp_path / "names.json"
    names.write_text(json.dumps(["tench", "goldfish"]))
    tar = write_tar(tmp_path / "a.tar", *{"0.jpg": picture(), "0.cls": label.encode()}.items())
    (record,) = read(tar, class_names=str(names)).records
    assert isinstance(record, Drop)
    assert record.reason.startswith("unreadable label")


def test_every_image_of_names_with_dots_is_a_separate_drop(tmp_path, picture):
    members = {f"img_1.{k}.{e}": b for k in range(5) for e, b in (("jpg", picture(k)), ("txt", b"a cat"))}
    records = list(read(write_tar(tmp_path / "a.tar", *members.items())).records)
    assert len(records) == 5
    assert all(isinstance(record, Drop) and "ambiguous key" in record.reason for record in records)


def test_a_caption_that_is_not_utf_8_is_a_drop_and_never_changed(tmp_path, picture):
    tar = write_tar(tmp_path / "a.tar", *{"0.jpg": picture(), "0.txt": "café".encode("latin-1")}.items())
    (record,) = read(tar).records
    assert record.reason.startswith("not UTF-8: its txt has byte 0xe9")


def test_a_tiff_is_an_image(tmp_path, picture):
    tar = write_tar(tmp_path / "a.tar", *{"0.tif": picture(), "0.txt": b"a cat"}.items())
    (record,) = read(tar).records
    assert [turn.text for turn in record.turns][1] == "a cat"


def test_labels_and_captions_as_other_tools_write_them_are_read_or_dropped_by_name(tmp_path, picture):
    options = {"class_names": str(names(tmp_path)), "label_field": "json"}
    labels = (
        b'{"label": "1"}',
        b"\xef\xbb\xbf1",
        b'"wild dog"',
        b'{"label": 0, "label": 1}',
        '"caf\xe9"'.encode("latin-1"),
    )
    members = [
        (f"{n}.{kind}", picture() if kind == "jpg" else data)
        for n, data in enumerate(labels)
        for kind in ("jpg", "json")
    ]
    tar = write_tar(tmp_path / "labels.tar", *members)
    assert [record.label for record in read(tar, **options).records if not isinstance(record, Drop)] == [1, 1, 1]
    assert {key[-1]: reason for key, reason in drops(tar, **options).items()} == {
        "3": "unreadable label: repeated key: 'label' has two values in one object",
        "4": "not UTF-8: its json has byte 0xe9 at 4",
    }
    captions = ("a cat".encode("utf-16"), "a cat".encode("utf-16-le"), b"\xef\xbb\xbfa cat")
    members = [
        (f"{n}.{kind}", picture() if kind == "jfif" else data)
        for n, data in enumerate(captions)
        for kind in ("jfif", "txt")
    ]
    tar = write_tar(tmp_path / "captions.tar", *members)
    assert [reason.partition(":")[0] for reason in drops(tar).values()] == ["not UTF-8", "not UTF-8"]
    (sample,) = (record for record in read(tar).records if not isinstance(record, Drop))
    assert sample.turns[1].text == "a cat"
