"""Small pictures and folders that several tests of data_prep build from."""

import hashlib
import http.server
import io
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import build, remote
from data_prep.shards import ShardSet

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def picture(seed: int = 0, size: tuple[int, int] = (24, 16), mode: str = "RGB", kind: str = "JPEG", **options) -> bytes:
    """A picture of random blocks, encoded."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize(size, Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.fixture(name="picture")
def picture_fixture() -> Callable[..., bytes]:
    return picture


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """Two classes, cat and wild_dog, of six JPEGs each."""
    root = tmp_path / "raw"
    for label, name in enumerate(("cat", "wild_dog")):
        (root / name).mkdir(parents=True)
        for number in range(6):
            (root / name / f"{number}.jpg").write_bytes(picture(10 * label + number))
    return root


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run config with one source `pets`; keyword arguments become settings of `data`."""

    def write(path: Path | None, reader: str = "image_folder", options: str = "{}", **data: object) -> Path:
        settings = {"shards": tmp_path / "shards", "samples_per_shard": 5} | data
        lines = ["name: test", "model: {base: none}", "train: {sources: [pets]}", "data:"]
        lines += [f"  {key}: {value}" for key, value in settings.items()]
        where = f"path: {path}, " if path else ""
        lines += ["  sources:", f"    pets: {{{where}reader: {reader}, options: {options}}}"]
        file = tmp_path / "config.yaml"
        file.write_text("\n".join(lines) + "\n")
        return file

    return write


@pytest.fixture
def built(class_folders: Path, write_config: Callable[..., Path], tmp_path: Path) -> ShardSet:
    """The class folders as a shard set of three shards with 5, 5 and 2 samples."""
    build.main(["--config", str(write_config(class_folders))])
    return ShardSet.open(tmp_path / "shards" / "pets")


@pytest.fixture
def shared_data() -> Path:
    """Real data sets kept beside the checkout; the test is skipped where they are not."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder ../shared/data with real images and lists is not there")
    return SHARED_DATA


@dataclass
class Server:
    """A web server of one folder: `cuts` of the next answers end in the middle; `lies` answers have a bit flipped."""

    folder: Path
    port: int = 0
    ranges: bool = True
    cuts: int = 0
    lies: int = 0
    requests: Counter = field(default_factory=Counter)
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/sets/pets"

    def answer(self, handler: http.server.BaseHTTPRequestHandler, *, body: bool) -> None:
        path = self.folder / handler.path.rpartition("/")[2]
        if not handler.path.startswith("/sets/pets/") or not path.is_file():
            handler.send_error(404)
            return
        data, wanted = path.read_bytes(), handler.headers.get("Range", "")
        start, end = 0, len(data)
        if wanted and self.ranges:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1, len(data)) if last else len(data)
        handler.send_response(206 if wanted and self.ranges else 200)
        if wanted and self.ranges:
            handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        handler.send_header("ETag", hashlib.sha256(data).hexdigest()[:16])
        handler.send_header("Content-Length", str(end - start))
        handler.send_header("Accept-Ranges", "bytes" if self.ranges else "none")
        handler.end_headers()
        if body:
            self.requests[path.name] += 1
            self.asked.append(f"{path.name} {wanted}")
            handler.wfile.write(self._bytes(handler, path.name, data[start:end]))

    def _bytes(self, handler: http.server.BaseHTTPRequestHandler, name: str, data: bytes) -> bytes:
        if name.endswith(".tar") and self.lies:
            self.lies -= 1
            return bytes([data[0] ^ 1]) + data[1:]
        if name.endswith(".tar") and self.cuts:
            self.cuts -= 1
            handler.close_connection = True
            return data[: len(data) // 2]
        return data


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Server]]:
    """Starts a server of a folder; it ends with the test."""
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    servers = []

    def start(folder: Path) -> Server:
        state = Server(folder)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                state.answer(self, body=True)

            def do_HEAD(self) -> None:
                state.answer(self, body=False)

            def log_message(self, *arguments: object) -> None:
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        state.port = servers[-1].server_address[1]
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return state

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def run(*arguments) -> None:
    build.main([str(argument) for argument in arguments])


def fails(capsys, *arguments) -> str:
    """The one line of a failing build, which must exit with code 2."""
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
