"""Tars of others behind URLs, referenced: a server on this machine that can cut connections and change bytes."""

import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset

from configs.errors import DataError
from data_prep import build, remote, remote_tars, verify
from data_prep.file_paths import FilePaths, _expanded, distinct_names
from data_prep.readers.webdataset import read
from data_prep.sample import Drop
from data_prep.shard_cache import ShardCache
from data_prep.shards import ShardSet
from data_prep.tar_index import index_tar
from data_prep.tars import open_tars

COUNT = 5  # samples of a tar


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def pictures(picture) -> list[bytes]:
    return [picture(number) for number in range(3 * COUNT)]


@pytest.fixture
def foreign(tmp_path: Path, pictures: list[bytes]) -> Path:
    """Three tars of five pictures with captions."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    for number in range(3):
        with tarfile.open(folder / f"{number:02d}.tar", "w") as tar:
            for place in range(COUNT):
                add(tar, f"{place}.jpg", pictures[number * COUNT + place])
                add(tar, f"{place}.txt", f"picture {number}-{place}".encode())
    return folder


@pytest.fixture
def server(foreign, serve):
    return serve(foreign)


@pytest.fixture
def make(server, write_config, tmp_path) -> Callable[..., ShardSet]:
    """Builds the three tars into shards by their URLs."""

    def make(options: str = "{copy: false}", places: str = "", processes: int = 1, **data: object) -> ShardSet:
        path = places or f"{server.url}/{{00..02}}.tar"
        settings = {"cache_dir": tmp_path / "cache", "samples_per_shard": 4} | data
        config = write_config(f"'{path}'", "webdataset", options, **settings)
        build.main(["--config", str(config), "--processes", str(processes)])
        folder = Path(str(data.get("shards", tmp_path / "shards")))
        return ShardSet.open(folder / "pets", ShardCache(tmp_path / "cache", 1 << 20))

    return make


def texts(shards: ShardSet) -> list[str]:
    return [shards.sample(number).turns[1].text for number in range(len(shards))]


def images(shards: ShardSet) -> list[bytes]:
    return [shards.sample(number).image for number in range(len(shards))]


def test_remote_tars_are_indexed_in_one_pass_and_no_image_is_copied(make, server, pictures, foreign, tmp_path):
    shards = make()
    assert images(shards) == pictures
    assert texts(shards) == [f"picture {number}-{place}" for number in range(3) for place in range(COUNT)]
    assert [file.path for file in shards.manifest.files] == [f"{server.url}/{number:02d}.tar" for number in range(3)]
    assert {name: server.requests[name] for name in server.requests} == {"00.tar": 1, "01.tar": 1, "02.tar": 1}
    with tarfile.open(shards.folder / "000000.tar") as tar:
        assert {name.partition(".")[2] for name in tar.getnames()} == {"json"}


def test_the_shards_are_those_of_the_same_tars_on_a_disk(make, foreign):
    there = make("{copy: true}")
    here = make("{copy: true}", places=str(foreign), shards=foreign.parent / "local")
    assert here.fingerprint == there.fingerprint
    assert here.manifest.bytes > 3 * COUNT * 512


def test_a_training_process_reads_them_after_being_pickled(make, pictures):
    assert images(pickle.loads(pickle.dumps(make()))) == pictures


@pytest.mark.slow
def test_a_cut_connection_continues_where_it_was(make, server, pictures, monkeypatch, foreign):
    monkeypatch.setattr(remote, "PIECE", 4096)
    monkeypatch.setattr(remote_tars, "AT_ONCE", 1)
    server.cuts = 3
    assert images(make()) == pictures
    pieces = sum(-(-(foreign / f"{number:02d}.tar").stat().st_size // 4096) for number in range(3))
    assert (server.cuts, sum(server.requests.values())) == (0, pieces + 3), "only the pieces that were cut come again"


def test_a_build_that_was_killed_indexes_no_tar_twice_and_shards_that_are_finished_need_no_tar(make, server, tmp_path):
    make()
    for copy in (tmp_path / "cache").glob("*/*.tar"):
        copy.unlink()
    server.requests.clear()
    make()
    assert server.requests == {}, "neither the index nor the finished shards ask for a byte"
    (tmp_path / "shards/pets/000000.json").unlink()
    make()
    assert server.requests == {"00.tar": 1}, "the shard that is written again reads its own tar"


def test_copies_come_and_go_in_a_cache_smaller_than_the_tars(make, foreign, pictures, tmp_path):
    size = (foreign / "00.tar").stat().st_size
    shards = make(cache_gib=(size + 1000) / 2**30)
    assert len(list((tmp_path / "cache").glob("*/*.tar"))) == 1
    bounded = ShardSet.open(shards.folder, ShardCache(tmp_path / "cache", size + 1000))
    assert [bounded.sample(number).image for number in (0, 14, 7, 1)] == [pictures[n] for n in (0, 14, 7, 1)]
    assert len(list((tmp_path / "cache").glob("*/*.tar"))) == 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # pytest's server is a thread; it does not matter
def test_two_processes_build_the_same_bytes(make, tmp_path):
    alone = make("{copy: true}", shards=tmp_path / "alone")
    both = make("{copy: true}", processes=2)
    assert (len(both), both.fingerprint) == (3 * COUNT, alone.fingerprint)


def damaged(data: bytes, how: str) -> bytes:
    place = 126  # in the first header, where the size stands
    return {
        "cut": data[:3000],
        "boundary": data[:2048],
        "flip": data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :],
        "empty": b"",
        "page": b"<html>not found</html>" * 40,
    }[how]


@pytest.mark.parametrize("how", ["cut", "boundary", "flip", "empty", "page"])
def test_damaged_remote_tars_are_all_named_and_the_others_are_indexed(make, server, foreign, capsys, how, tmp_path):
    for name in ("00.tar", "02.tar"):
        path = foreign / name
        path.write_bytes(damaged(path.read_bytes(), how))
    with pytest.raises(SystemExit):
        make()
    told = capsys.readouterr().err
    assert f"2 of 3 tars cannot be read: {server.url}/0" in told
    assert all(f"{server.url}/{name} is" in told for name in ("00.tar", "02.tar"))
    assert len(list((tmp_path / "cache/tars").glob("*.json"))) == 1


def test_bytes_that_were_damaged_on_the_way_are_fetched_once_more(make, server, pictures):
    server.lies = 1
    assert images(make()) == pictures
    assert sum(server.requests.values()) == 4


def test_a_missing_tar_is_named(make, server, capsys):
    with pytest.raises(SystemExit):
        make(places=f"{server.url}/{{00..03}}.tar")
    assert f"1 of 4 tars cannot be read: there is no {server.url}/03.tar" in capsys.readouterr().err


def test_a_tar_that_was_replaced_is_noticed_when_it_is_read_and_when_it_is_built(make, server, foreign, capsys):
    shards = make()
    for copy in shards.cache.folder.glob("*/*.tar"):
        copy.unlink()
    data = (foreign / "01.tar").read_bytes()
    place = int(shards.index["image_offset"][COUNT]) + 100
    (foreign / "01.tar").write_bytes(data[:place] + b"?" + data[place + 1 :])
    with pytest.raises(DataError, match=r"01\.tar was fetched twice and has the sha256 .*damaged or replaced"):
        shards.sample(COUNT)
    with pytest.raises(SystemExit):
        make()
    assert "was built from other records" in capsys.readouterr().err


def test_a_set_behind_a_url_may_adopt_tars_behind_urls(make, serve, pictures, tmp_path):
    shards = make()
    there = ShardSet.open(serve(shards.folder).url, ShardCache(tmp_path / "other", 1 << 20))
    assert images(there) == pictures


def test_verify_reads_remote_tars_to_the_last_pixel(make, capsys, tmp_path, foreign):
    shards = make()
    verify.main([str(shards.folder), "--full", "--cache-dir", str(tmp_path / "cache")])
    assert "15 samples in 4 shards: OK" in capsys.readouterr().out


@pytest.mark.parametrize("pattern", ["{url}/00.tar::{url}/{{01..02}}.tar", "{folder}/list.txt", "{url}/list.txt"])
def test_patterns_and_lists_name_the_same_tars(server, foreign, tmp_path, pattern):
    (foreign / "list.txt").write_text(f"{server.url}/00.tar\n\n{server.url}/{{01..02}}.tar\n")
    places = FilePaths(pattern.format(url=server.url, folder=foreign), ShardCache(tmp_path / "cache", 1 << 20))
    assert places.files() == [f"{server.url}/{number:02d}.tar" for number in range(3)]


@pytest.mark.parametrize("pattern", ["a/{0..2}.tar::b.tar", "{x,y/{08..10}}.tar", "s3://bucket/{000..001}.tar"])
def test_patterns_mean_what_they_mean_in_the_webdataset_package(pattern):
    assert _expanded(pattern) == webdataset.shardlists.expand_urls(pattern)
    assert len(_expanded(pattern)) > 1


def test_a_tar_that_occurs_twice_is_refused_and_equal_names_in_two_folders_are_distinguished(foreign, tmp_path):
    with pytest.raises(DataError, match=r"00\.tar occurs 2 times"):
        FilePaths(f"{foreign}/{{00,01,00}}.tar").files()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "00.tar").write_bytes((foreign / "00.tar").read_bytes())
    tars = open_tars(FilePaths(f"{foreign}/00.tar::{tmp_path}/more/00.tar"))
    assert [tars.entry(number)[1] for number in (0, COUNT)] == ["foreign/00/0", "more/00/0"]
    assert distinct_names([]) == []


def test_a_list_on_a_server_may_not_name_files_of_this_machine(server, foreign, tmp_path):
    (foreign / "list.txt").write_text(f"{foreign}/00.tar\n")
    with pytest.raises(DataError, match="a path of another machine"):
        FilePaths(f"{server.url}/list.txt").files()


@pytest.mark.parametrize("path", ["a/{0..2.tar", "NOWHERE/{00..01}.tar", "s3://key:secret@bucket/{0..1}.tar"])
def test_a_wrong_pattern_is_reported_before_anything_is_asked(tmp_path, path):
    with pytest.raises(DataError, match=r"not a pattern|does not exist|credentials"):
        FilePaths(path.replace("NOWHERE", str(tmp_path))).check()


def test_an_unreadable_index_is_made_again(make, server, tmp_path, pictures):
    make()
    for file in (tmp_path / "cache/tars").glob("*.json"):
        file.write_text(file.read_text()[:50])
    server.requests.clear()
    assert images(make()) == pictures
    assert set(server.requests.values()) == {1}


def test_samples_are_those_the_webdataset_package_reads(tmp_path, picture):
    tar = tmp_path / "a.b" / "x.tar"
    tar.parent.mkdir()
    with tarfile.open(tar, "w") as file:
        folder = tarfile.TarInfo("some.dir")
        folder.type = tarfile.DIRTYPE
        file.addfile(folder)
        for name in ("some.dir/1.JPG", "some.dir/._1.JPG", "some.dir/1.txt", ".DS_Store", "2.jpg", "2.json", "2.cls"):
            add(file, name, json.dumps(name).encode())
    ours = index_tar(tar, "x")
    theirs = list(webdataset.WebDataset(str(tar), shardshuffle=False))
    assert [key for key, _ in ours] == [sample["__key__"] for sample in theirs]
    for (_, fields), sample in zip(ours, theirs, strict=True):
        assert {name: tar.read_bytes()[f.offset : f.offset + f.size] for name, f in fields.items()} == {
            name: data for name, data in sample.items() if not name.startswith("__")
        }


def test_a_long_or_binary_text_is_not_kept_but_read_when_it_is_needed(tmp_path, picture, serve, write_config):
    folder = tmp_path / "odd"
    folder.mkdir()
    with tarfile.open(folder / "0.tar", "w") as tar:
        for name, text in (("1", b"x" * 100_000), ("2", b"caf\xe9")):
            add(tar, f"{name}.jpg", picture())
            add(tar, f"{name}.txt", text)
    url = serve(folder).url
    tars = open_tars(FilePaths(f"{url}/0.tar", ShardCache(tmp_path / "cache", 1 << 20)))
    assert [tars.entry(number)[2]["txt"].text for number in (0, 1)] == [None, None]
    records = list(read(FilePaths(f"{url}/0.tar", ShardCache(tmp_path / "cache", 1 << 20))).records)
    assert [len(record.turns[1].text) for record in records if not isinstance(record, Drop)] == [100_000]
    assert [record.reason for record in records if isinstance(record, Drop)] == [
        "not UTF-8: its txt has byte 0xe9 at 3"
    ]
