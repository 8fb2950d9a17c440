"""Shard sets behind a URL, served by a server on this machine that can cut connections and change bytes."""

import json
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from configs.data import DataConfig
from configs.errors import DataError
from configs.locations import as_url
from data_prep import remote, shard_cache
from data_prep.manifest import read_manifest
from data_prep.shard_cache import ShardCache
from data_prep.shards import ShardSet


@pytest.fixture
def server(built, serve):
    return serve(built.folder)


@pytest.fixture
def cache(tmp_path: Path) -> ShardCache:
    return ShardCache(tmp_path / "cache", 1 << 20)


def cached(cache: ShardCache) -> list[str]:
    return sorted(path.name for path in cache.folder.glob("*/*.tar"))


def test_a_set_behind_a_url_reads_like_the_folder_and_shards_come_when_they_are_read(server, built, cache):
    there = ShardSet.open(server.url, cache)
    assert (len(there), there.fingerprint) == (12, built.fingerprint)
    assert cached(cache) == []
    assert not there.fetched(11)
    assert there.sample(11) == built.sample(11)
    assert cached(cache) == ["000002.tar"]
    assert there.fetched(11) and not there.fetched(0) and built.fetched(0)
    assert [there.sample(number) for number in range(12)] == [built.sample(number) for number in range(12)]
    assert all(server.requests[entry.name] == 1 for entry in built.manifest.shards)
    again = ShardSet.open(Path(server.url.replace("//", "/")), cache)
    assert again.sample(0) == built.sample(0)
    assert server.requests["000000.tar"] == server.requests["index.npy"] == 1, "what is cached is not fetched again"


def test_a_record_is_read_without_its_image(server, built, cache):
    there = ShardSet.open(server.url, cache)
    for number in (0, 11):
        assert there.record(number).to_json() == built.record(number).to_json() == built.sample(number).to_json()
        assert there.record(number).image is None


def test_file_urls_are_read_too_and_a_pickled_set_opens_its_copies(built, cache):
    there = pickle.loads(pickle.dumps(ShardSet.open(f"file://{built.folder}", cache)))
    assert there.sample(7) == built.sample(7)


def test_the_manifest_is_read_from_a_url(server, built):
    assert read_manifest(Path(server.url)) == built.manifest


def test_a_cut_connection_continues_where_it_was(server, built, cache, monkeypatch):
    monkeypatch.setattr(remote, "PIECE", 4000)
    there = ShardSet.open(server.url, cache)
    server.asked.clear()
    server.cuts = 2
    assert there.sample(0) == built.sample(0)
    size = built.manifest.shards[0].bytes
    pieces = [f"000000.tar bytes={start}-{min(start + 4000, size) - 1}" for start in range(0, size, 4000)]
    assert size > 8000, "or nothing is resumed here"
    assert server.cuts == 0
    assert server.asked[:3] == pieces[:1] * 3, "the piece that was cut is asked for again"
    assert server.asked[2:] == pieces, "and the others once"


@pytest.mark.slow
def test_a_connection_that_is_cut_again_and_again_is_an_error_that_names_the_shard(server, cache):
    there = ShardSet.open(server.url, cache)
    server.cuts = 100
    with pytest.raises(DataError, match=r"sets/pets/000000\.tar could not be fetched: .*6 attempts"):
        there.sample(0)
    assert list(cache.folder.glob("*/.*.part")) == []
    server.cuts = 0
    assert there.sample(0).label == 0, "and later it may work"


def test_a_server_without_ranges_will_do(server, built, cache, monkeypatch):
    monkeypatch.setattr(remote, "PIECE", 4000)
    server.ranges = False
    assert ShardSet.open(server.url, cache).sample(3) == built.sample(3)


def test_a_wrong_checksum_is_fetched_once_more_and_then_an_error(server, built, cache):
    there = ShardSet.open(server.url, cache)
    server.lies = 1
    assert there.sample(0) == built.sample(0)
    assert server.requests["000000.tar"] == 2
    server.lies = 100
    with pytest.raises(DataError, match=r"000001\.tar was fetched twice and has the sha256 .*the manifest says"):
        there.sample(5)
    assert server.requests["000001.tar"] == 2
    assert cached(cache) == ["000000.tar"]


def test_a_missing_shard_or_set_is_named(server, built, cache):
    there = ShardSet.open(server.url, cache)
    (built.folder / "000001.tar").unlink()
    with pytest.raises(DataError, match=r"there is no http://.*/000001\.tar; is the address right"):
        there.sample(5)
    with pytest.raises(DataError, match=r"there is no http://.*/manifest\.json"):
        ShardSet.open(f"{server.url}s", cache)


def test_the_longest_unused_shards_make_room(server, built, cache):
    first, second, third = (entry.bytes for entry in built.manifest.shards)
    there = ShardSet.open(server.url, ShardCache(cache.folder, first + second))
    for number in (0, 5, 0):
        there.sample(number)
    ShardSet.open(server.url, cache).sample(0)  # opening it again marks shard 0 as used
    there.sample(11)
    assert third <= second
    assert cached(cache) == ["000000.tar", "000002.tar"]
    assert [there.sample(number) for number in range(12)] == [built.sample(number) for number in range(12)]


@pytest.mark.slow
def test_a_shard_that_another_reader_has_open_stays(server, built, cache, monkeypatch):
    monkeypatch.setattr(shard_cache, "PATIENCE", 0.1)
    bound = ShardCache(cache.folder, built.manifest.shards[0].bytes + 100)
    other, there = ShardSet.open(server.url, bound), ShardSet.open(server.url, bound)
    other.sample(0)
    for read in (there.sample, there.record):
        with pytest.raises(DataError, match=r"^no room for .*000001\.tar .*raise data\.cache_gib"):
            read(5)
    assert cached(cache) == ["000000.tar"]
    other._files.close()
    assert there.sample(5) == built.sample(5)
    assert cached(cache) == ["000001.tar"]


def test_a_shard_larger_than_the_whole_cache_is_refused_at_once(server, cache):
    there = ShardSet.open(server.url, ShardCache(cache.folder, 1000))
    with pytest.raises(DataError, match="may hold 1000 bytes"):
        there.sample(0)
    assert server.requests["000000.tar"] == 0


def test_what_a_killed_process_left_is_removed_when_room_is_needed(server, built, cache):
    there = ShardSet.open(server.url, ShardCache(cache.folder, built.manifest.shards[0].bytes))
    left = there.folder / ".000002.tar.part"
    left.write_bytes(bytes(5000))
    os.utime(left, (1, 1))
    there.sample(0)
    assert not left.exists()


def read_all(url: str, cache: ShardCache, seed: int, answers: "multiprocessing.Queue") -> None:
    try:
        shards = ShardSet.open(url, cache)
        order = np.random.default_rng(seed).permutation(len(shards))
        answers.put(sorted(shards.sample(int(number)).id for _ in range(5) for number in order))
    except Exception as error:
        answers.put(repr(error))


def read_given(shards: ShardSet, seed: int, answers: "multiprocessing.Queue") -> None:
    order = np.random.default_rng(seed).permutation(len(shards))
    answers.put(sorted(shards.sample(int(number)).id for number in order))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # pytest's server is a thread; it does not matter
def test_a_set_opened_before_a_fork_is_read_after_it(server, built, cache):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    shards = ShardSet.open(server.url, ShardCache(cache.folder, built.manifest.shards[0].bytes * 2))
    shards.sample(0)
    processes = [context.Process(target=read_given, args=(shards, seed, answers)) for seed in (0, 1)]
    for process in processes:
        process.start()
    expected = sorted(built.sample(number).id for number in range(12))
    assert [answers.get(timeout=300) for _ in processes] == [expected, expected]
    for process in processes:
        process.join()


@pytest.mark.slow
@pytest.mark.parametrize("roomy", [True, False])
def test_two_processes_at_once_share_one_cache(server, built, cache, roomy):
    limit = cache.limit if roomy else built.manifest.shards[0].bytes + built.manifest.shards[1].bytes
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    shared = ShardCache(cache.folder, limit)
    processes = [context.Process(target=read_all, args=(server.url, shared, seed, answers)) for seed in (0, 1)]
    for process in processes:
        process.start()
    expected = sorted(built.sample(number).id for number in range(12) for _ in range(5))
    assert [answers.get(timeout=300) for _ in processes] == [expected, expected]
    for process in processes:
        process.join()
    if roomy:
        assert all(server.requests[entry.name] == 1 for entry in built.manifest.shards), "one fetches, one waits"
    assert sum(path.stat().st_size for path in cache.folder.glob("*/*.tar")) <= limit


def test_names_that_leave_the_cache_are_refused(server, built, cache):
    manifest = built.folder / "manifest.json"
    for name in ("../../x.tar", "/abs/000000.tar", "x.pkl"):
        values = json.loads(manifest.read_text())
        values["shards"][0]["name"] = name
        manifest.write_text(json.dumps(values))
        with pytest.raises(DataError, match="names a shard"):
            ShardSet.open(server.url, cache)
    values["shards"][0]["name"], values["source"] = "000000.tar", "../x"
    manifest.write_text(json.dumps(values))
    with pytest.raises(DataError, match="names its source"):
        ShardSet.open(server.url, cache)


def test_a_set_that_adopts_local_files_is_refused(server, built, cache):
    manifest = built.folder / "manifest.json"
    values = json.loads(manifest.read_text())
    values["files"] = [{"path": "/data/x.tar", "bytes": 1}]
    manifest.write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"references images in another file, /data/x\.tar"):
        ShardSet.open(server.url, cache)


def test_a_pickled_index_is_never_unpickled(built, tmp_path):
    class Mine:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    np.save(built.folder / "index.npy", np.array([Mine()] * 12, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"index\.npy cannot be read \(.*Python objects"):
        ShardSet.open(built.folder)
    (built.folder / "index.npy").write_bytes(pickle.dumps(Mine()))
    with pytest.raises(DataError, match=r"index\.npy cannot be read"):
        ShardSet.open(built.folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["pipe:touch {ran}", "pipe:/touch {ran}", "ssh://host/x", "memory://x", "pkl:x"])
def test_pipes_and_other_kinds_of_urls_are_refused_and_nothing_runs(place, tmp_path):
    with pytest.raises(DataError, match=r"URLs are not opened .*use a folder or one of http"):
        ShardSet.open(Path(place.format(ran=tmp_path / "ran")) / "pets")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["https://me:secret@host/x", "https://host/x?sig=secret"])
def test_urls_with_credentials_are_refused_without_repeating_them(place):
    with pytest.raises(DataError, match="holds credentials") as error:
        as_url(place)
    assert "secret" not in str(error.value)


def test_paths_are_no_urls_and_joined_urls_are_repaired(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:name").mkdir()
    assert [as_url(place) for place in ("shards/x", Path("/a/b"), "odd:name", "C:/x")] == [None] * 4
    assert as_url(Path("s3://bucket/shards") / "pets") == "s3://bucket/shards/pets"
    assert as_url("file:///data/pets/") == as_url(Path("file:///data/pets")) == "file:///data/pets"


def test_a_part_that_is_deleted_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    (tmp_path / "tars").mkdir()
    cache, part, lock = ShardCache(tmp_path, 100), tmp_path / "tars" / ".a.part", shard_cache.lock_file
    (tmp_path / "tars" / "old.tar").write_bytes(bytes(90))
    rooms = iter([90])

    def lock_late(file: int) -> None:
        for size in rooms:
            cache.make_room(size)  # as another process that needs room
            assert not part.exists()
        lock(file)

    def fetch(file) -> Path:
        file.write(b"bytes")
        assert part.exists()
        return part.with_name("a.tar")

    os.utime(tmp_path / "tars" / "old.tar", (2**33, 2**33))
    monkeypatch.setattr(shard_cache, "lock_file", lock_late)
    cache.fill(part, "a.tar", 5, fetch)
    assert (tmp_path / "tars" / "a.tar").read_bytes() == b"bytes"


def test_only_the_file_that_was_locked_is_deleted(tmp_path, monkeypatch):
    old, new = tmp_path / "tars" / "a.tar", tmp_path / "new"
    old.parent.mkdir()
    for path in (old, new):
        path.write_bytes(bytes(90))
    lock = shard_cache.try_lock_file
    monkeypatch.setattr(shard_cache, "try_lock_file", lambda file: bool(new.replace(old)) and lock(file))
    assert not ShardCache(tmp_path, 100).make_room(20)
    assert old.is_file(), "it took the name of the file that was to be deleted"


def test_a_cache_lies_where_the_variables_of_this_machine_say(tmp_path, monkeypatch):
    cache = ShardCache.of(DataConfig(cache_dir="$SCRATCH_OF_THE_NODE/$JOB_NUMBER/shards"))
    monkeypatch.setenv("SCRATCH_OF_THE_NODE", str(tmp_path))
    with pytest.raises(
        DataError, match=r"cache_dir is \$SCRATCH_OF_THE_NODE/.* variable JOB_NUMBER is not set on .*set"
    ):
        cache.make_room(1)
    monkeypatch.setenv("JOB_NUMBER", "7")
    assert cache.folder == tmp_path / "7/shards"
