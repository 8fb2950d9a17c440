"""Shard sets and foreign tars in s3 and gs, served by emulators on this machine: `pip install s3fs moto[server]`, and
`pip install gcsfs gcp-storage-emulator`. Skipped where these are not installed.
"""

import dataclasses
import json
import shutil
import socket
import tarfile
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from configs.data import DataConfig, SourceConfig
from configs.errors import DataError
from data_prep import build, remote
from data_prep.shard_cache import ShardCache
from data_prep.shards import ShardSet
from train.data.loader import read_steps
from train.data.order import PADDING
from train.data.sources import PositionSet, SourceSet
from train.plan import plan_order

fsspec = pytest.importorskip("fsspec")

BUCKET = "vlm-data"


@dataclass(frozen=True)
class Store:
    """An empty bucket: its URL, how to put a file into it under a name, how to end it."""

    url: str
    put: Callable[[Path, str], object]
    stop: Callable[[], object]


def s3(monkeypatch: pytest.MonkeyPatch) -> Store:
    """An s3 store, told to its clients by the environment."""
    s3fs = pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "ENDPOINT_URL": f"http://{host}:{port}",
        "ACCESS_KEY_ID": "x",
        "SECRET_ACCESS_KEY": "x",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = s3fs.S3FileSystem(skip_instance_cache=True)
    client.makedirs(BUCKET, exist_ok=True)
    return Store(f"s3://{BUCKET}", lambda file, name: client.put_file(str(file), f"{BUCKET}/{name}"), server.stop)


def gs(monkeypatch: pytest.MonkeyPatch) -> Store:
    """A gs store, told to its clients by the environment."""
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # else it asks Google about the bucket first
    pytest.importorskip("gcsfs")
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = emulator.create_server("127.0.0.1", int(address.rpartition(":")[2]), in_memory=True, default_bucket=BUCKET)
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})

    def put(file: Path, name: str) -> None:
        query = f"uploadType=media&name={urllib.parse.quote(name, safe='')}"
        url = f"{address}/upload/storage/v1/b/{BUCKET}/o?{query}"
        kind = {"Content-Type": "application/octet-stream"}
        urllib.request.urlopen(urllib.request.Request(url, file.read_bytes(), kind)).close()

    return Store(f"gs://{BUCKET}", put, server.stop)


@pytest.fixture(params=[s3, gs])
def store(request, monkeypatch) -> Iterator[Store]:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    made = request.param(monkeypatch)
    yield made
    made.stop()


class Bytes(PositionSet[tuple[str, bytes]]):
    """Id and image of a position."""

    def __getitem__(self, position: int) -> tuple[str, bytes]:
        sample = self.sources.sample(position) if position != PADDING else None
        return ("", b"") if sample is None else (sample.id, sample.image or b"")


def read_in_order(config, data: DataConfig, workers: int, steps: int = 6) -> list[Any]:
    sources = SourceSet.of(data, config.train.sources)
    reading = read_steps(plan_order(config, sources, 1), Bytes(sources), list, 0, 0, workers)
    return [next(reading) for _ in range(steps)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the servers are threads, and workers are forked
def test_training_reads_the_same_samples_from_a_store_as_from_a_disk(store, training_setup, tmp_path):
    config = training_setup.config()
    for name in config.train.sources:
        for file in (Path(config.data.shards) / name).iterdir():
            store.put(file, f"shards/{name}/{file.name}")
    data = dataclasses.replace(config.data, shards=f"{store.url}/shards", cache_dir=str(tmp_path / "cache"))
    expected = read_in_order(config, config.data, 0)
    assert len({sample for _, batches in expected for batch in batches for sample, _ in batch}) == 48
    assert read_in_order(config, data, 2) == expected
    shutil.rmtree(tmp_path / "cache")
    assert read_in_order(config, data, 0) == expected


def test_tars_in_a_store_are_adopted_where_they_lie(store, training_setup, tmp_path):
    shards = ShardSet.open(Path(training_setup.config().data.shards) / "pictures")
    for number, entry in enumerate(shards.manifest.shards):
        store.put(shards.folder / entry.name, f"tars/{number}.tar")
    last = len(shards.manifest.shards) - 1
    (tmp_path / "names.json").write_text(json.dumps(shards.manifest.class_names))
    options = {"copy": False, "label_field": "json", "class_names": str(tmp_path / "names.json")}
    path = f"{store.url}/tars/{{0..{last}}}.tar"
    data = DataConfig(
        shards=str(tmp_path / "shards"),
        cache_dir=str(tmp_path / "cache"),
        sources={"theirs": SourceConfig(reader="webdataset", path=path, options=options)},
    )
    config = tmp_path / "config.yaml"
    values = {
        "name": "x",
        "data": dataclasses.asdict(data),
        "model": {"base": "none"},
        "train": {"sources": ["theirs"]},
    }
    config.write_text(json.dumps(values))
    build.main(["--config", str(config)])
    referenced = ShardSet.open(tmp_path / "shards" / "theirs", ShardCache.of(data))
    assert referenced.labels.tolist() == shards.labels.tolist()
    assert [referenced.sample(n).image for n in range(len(shards))] == [
        shards.sample(n).image for n in range(len(shards))
    ]
    with tarfile.open(referenced.folder / "000000.tar") as tar:
        assert {name.partition(".")[2] for name in tar.getnames()} == {"json"}


def test_what_is_not_in_a_store_is_named(store, tmp_path):
    with pytest.raises(DataError, match=rf"there is no {store.url}/shards/pets/manifest\.json"):
        ShardSet.open(f"{store.url}/shards/pets", ShardCache(tmp_path / "cache", 1 << 20))
