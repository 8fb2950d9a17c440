"""Models fetched from a hub that runs in this process: what is listed, fetched, checked, and fetched again."""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from huggingface_hub import constants

from configs.errors import ConfigError
from launch import prefetch
from launch.hub_files import HubFile, HubModel, fault_of, git_hash_of, header_fault, local_faults
from launch.prefetch import models_of

COMMIT = "c" * 40
CLIP = "openai/clip-vit-large-patch14-336"
Main = Callable[..., int]


def safetensors(values: bytes) -> bytes:
    """A file of one tensor."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(values)], "data_offsets": [0, len(values)]}}).encode()
    return len(header).to_bytes(8, "little") + header + values


FILES = {
    "config.json": b'{"model_type": "llava"}',
    "tokenizer.json": b"{}",
    "README.md": b"not read",
    "model-1.safetensors": safetensors(b"a" * 3000),
    "model-2.safetensors": safetensors(b"b" * 2000),
    "model.safetensors.index.json": b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}',
    "pytorch_model.bin": b"the same weights again",
}


class Hub(BaseHTTPRequestHandler):
    """Answers the requests of huggingface_hub; `damaged` names files whose bytes arrive changed, that often."""

    files: ClassVar[dict[str, bytes]]
    damaged: ClassVar[dict[str, int]]
    cut: ClassVar[dict[str, int]]
    sent: ClassVar[list[tuple[str, str | None]]]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        if match := re.fullmatch(r"/.+?/resolve/[^/]+/(.+)", path):
            if match[1] in self.files:
                return self._file(match[1], body)
        elif "/tree/" in path:
            return self._send(json.dumps([self._entry(name) for name in self.files]).encode(), body)
        elif path.startswith(("/api/models/org/", "/api/models/openai/")):
            siblings = [
                {"rfilename": name, **self._entry(name), "blobId": self._entry(name)["oid"]} for name in self.files
            ]
            described = {"id": path.split("/revision")[0].removeprefix("/api/models/"), "sha": COMMIT}
            return self._send(json.dumps(described | {"siblings": siblings}).encode(), body)
        return self._send(b'{"error": "Repository not found"}', body, 404, {"X-Error-Code": "RepoNotFound"})

    def _entry(self, name: str) -> dict[str, Any]:
        content = self.files[name]
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": git}
        if self._large(name):
            sha = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": sha, "sha256": sha, "size": len(content), "pointerSize": 130}
        return entry

    def _large(self, name: str) -> bool:
        return name.endswith((".safetensors", ".bin"))

    def _file(self, name: str, body: bool) -> None:
        content, entry = self.files[name], self._entry(name)
        etag = entry["lfs"]["sha256"] if self._large(name) else entry["oid"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        if not body:
            return self._send(content, False, 200, headers)
        wanted = self.headers.get("Range")
        self.sent.append((name, wanted))
        begin = int(re.findall(r"\d+", wanted)[0]) if wanted else 0
        if self.damaged.get(name, 0):
            self.damaged[name] -= 1
            content = content[:-1] + bytes([content[-1] ^ 1])
        rest = content[begin:]
        if wanted:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        if self.cut.get(name, 0):  # the connection ends after 1,000 bytes
            self.cut[name] -= 1
            self._head(206 if wanted else 200, len(rest), headers)
            self.wfile.write(rest[:1000])
            self.close_connection = True
            return None
        return self._send(rest, True, 206 if wanted else 200, headers)

    def _send(self, content: bytes, body: bool, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._head(status, len(content), headers or {})
        if body:
            self.wfile.write(content)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(length)} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    handler = type("ThisHub", (Hub,), {"files": dict(FILES), "damaged": {}, "cut": {}, "sent": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    address = f"{constants.ENDPOINT}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HOME", raising=False)
    yield handler
    server.shutdown()
    server.server_close()


def cache_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("hub/models--*/snapshots/*/*"))


WANTED = sorted(set(FILES) - {"README.md", "pytorch_model.bin"})


@pytest.mark.slow
def test_a_dry_run_lists_the_files_that_a_program_reads_and_fetches_none(
    hub: type[Hub], tmp_path: Path, run_main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files["model-1.safetensors"] = safetensors(b"a" * 3_000_000)
    assert run_main(prefetch.main, "--model", "org/llava", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"org/llava@main (commit {COMMIT[:12]}): 5 files, 2.9 MiB, 2.9 MiB to fetch\n")
    assert re.search(r"2\.9 MiB  missing  model-1\.safetensors", shown)
    assert "README" not in shown and "pytorch_model.bin" not in shown
    assert hub.sent == [] and not (tmp_path / "hub").exists()


@pytest.mark.slow
def test_what_was_fetched_is_whole_and_found_without_a_network(
    hub: type[Hub], tmp_path: Path, run_main: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_main(prefetch.main, "--model", "org/llava") == 0
    assert "complete and checked in" in capsys.readouterr().out
    assert cache_files(tmp_path) == WANTED
    hub.sent.clear()
    assert run_main(prefetch.main, "--model", "org/llava") == 0
    assert hub.sent == [], "nothing is fetched twice"
    assert ", 0 bytes to fetch" in capsys.readouterr().out
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert run_main(prefetch.main, "--model", "org/llava", "--check") == 0
    (weights,) = (path for path in tmp_path.glob("hub/**/model-1.safetensors"))
    stored = weights.resolve()
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    assert run_main(prefetch.main, "--model", "org/llava", "--check") == 2
    assert "model-1.safetensors has another sha256 than it was stored under" in capsys.readouterr().err
    weights.unlink()
    assert run_main(prefetch.main, "--model", "org/llava", "org/other", "--check") == 2
    shown = capsys.readouterr().err
    assert "org/llava@main: model-1.safetensors is missing" in shown and "org/other@main is not in the cache" in shown


@pytest.mark.slow
def test_a_damaged_file_is_fetched_again_once_and_then_refused(
    hub: type[Hub], run_main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.damaged["model-2.safetensors"] = 1
    assert run_main(prefetch.main, "--model", "org/llava") == 0
    shown = capsys.readouterr()
    assert "model-2.safetensors has another sha256 than the hub states; fetching it again" in shown.err
    assert "complete and checked" in shown.out
    hub.damaged["tokenizer.json"] = 9
    hub.files["tokenizer.json"] = b"[]"
    assert run_main(prefetch.main, "--model", "org/other") == 2
    shown = capsys.readouterr()
    assert "tokenizer.json of org/other@main has another git hash than the hub states, also after" in shown.err
    assert "complete" not in shown.out


@pytest.mark.slow
def test_a_fetch_that_broke_off_continues_where_it_was(
    hub: type[Hub], run_main: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)
    hub.cut["model-1.safetensors"] = 2
    assert run_main(prefetch.main, "--model", "org/llava") == 0
    asked = [wanted for name, wanted in hub.sent if name == "model-1.safetensors"]
    assert asked == [None, "bytes=1000-", "bytes=2000-"]
    assert "complete and checked" in capsys.readouterr().out


@pytest.mark.slow
def test_a_connection_that_always_breaks_is_one_line_and_the_next_call_continues(
    hub: type[Hub], run_main: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.cut["model-1.safetensors"] = 6
    assert run_main(prefetch.main, "--model", "org/llava") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: org/llava@main could not be fetched: ") and "what was fetched is kept" in last
    hub.cut.clear()
    hub.sent.clear()
    assert run_main(prefetch.main, "--model", "org/llava") == 0
    assert "model-2.safetensors" not in {name for name, _ in hub.sent}


def test_a_repository_with_old_weights_alone_is_fetched_with_them(
    hub: type[Hub], run_main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in hub.files if "safetensors" in name]:
        del hub.files[name]
    assert run_main(prefetch.main, "--model", "org/clip", "--dry-run") == 0
    assert "pytorch_model.bin" in capsys.readouterr().out
    del hub.files["pytorch_model.bin"]
    assert run_main(prefetch.main, "--model", "org/clip", "--dry-run") == 2
    assert "org/clip@main has no safetensors and no pytorch_model.bin" in capsys.readouterr().err


def test_what_the_hub_does_not_give_is_one_line(
    hub: type[Hub], run_main: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_main(prefetch.main, "--model", "nobody/nothing", "--dry-run") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the files of nobody/nothing@main could not be listed: ") and error.count("\n") == 1
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    assert run_main(prefetch.main, "--model", "org/llava", "--dry-run") == 2
    assert "no route to host; what was fetched is kept" in capsys.readouterr().err
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run_main(prefetch.main, "--model", "org/llava", "--dry-run") == 2
    assert "HF_HUB_OFFLINE is set: unset it here" in capsys.readouterr().err


def refuse(*_: Any, **__: Any) -> None:
    raise OSError("no route to host")


@pytest.mark.slow
def test_the_models_of_runs_and_evaluations_are_found_and_others_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "clip.yaml").write_text(
        f"name: clip\nmodel: {CLIP}\nrevision: abc\nsource: a\ndata: {{sources: {{a: {{reader: toy_world}}}}}}\n"
    )
    text = (project / "clip.yaml").read_text()
    (project / "eva.yaml").write_text(text.replace(CLIP, "open_clip:EVA/x"))
    (project / "models/here").mkdir(parents=True)
    (project / "local.yaml").write_text(text.replace(CLIP, "models/here"))
    files = [project / name for name in ("configs/run.yaml", "clip.yaml", "eva.yaml", "local.yaml")]
    models, notes = models_of(files, ["org/a@v1", "llava-hf/llava-1.5-7b-hf"])
    assert [str(model) for model in models] == ["llava-hf/llava-1.5-7b-hf@main", f"{CLIP}@abc", "org/a@v1"]
    assert [note.partition(": ")[2] for note in notes] == [
        "open_clip:EVA/x is not on the hub; its own program fetches it",
        "models/here is a folder, nothing to fetch",
    ]
    with pytest.raises(ConfigError, match="--model is 'llava'; give a hub id"):
        models_of([], ["llava"])
    run = project / "configs/run.yaml"
    run.write_text(run.read_text().replace("module load cuda/12", "export HF_HOME=/shared/hf"))
    monkeypatch.delenv("HF_HOME", raising=False)
    with pytest.raises(ConfigError, match=r"HF_HOME=/shared/hf, and here it is not set; run: HF_HOME=/shared/hf"):
        models_of([run])
    monkeypatch.setenv("HF_HOME", "/shared/hf/")
    assert models_of([run])[0] == [HubModel("llava-hf/llava-1.5-7b-hf")]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (safetensors(b"abc"), None),
        (safetensors(b"abc") + b"x", "bytes, "),
        (safetensors(b"abc")[:-1], "bytes, "),
        (b"", "no header"),
        (b"\xff" * 20, "no header"),
        (b"\x04\0\0\0\0\0\0\0null", "damaged header"),
        (b"version https://git-lfs.github.com/spec/v1\n", "no header"),
    ],
)
def test_a_header_of_safetensors_is_read(tmp_path: Path, content: bytes, fault: str | None) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    found = header_fault(tmp_path / "a.safetensors")
    assert found is None if fault is None else fault in (found or "")


def test_size_and_hashes_are_compared(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    assert fault_of(file, HubFile("a.txt", 3, None, None)) == "is missing"
    file.write_bytes(b"abc")
    assert git_hash_of(file) == "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f"  # git hash-object
    assert fault_of(file, HubFile("a.txt", 3, None, git_hash_of(file))) is None
    assert fault_of(file, HubFile("a.txt", 4, None, None)) == "has 3 bytes of 4"
    assert "sha256" in str(fault_of(file, HubFile("a.txt", 3, "0" * 64, None)))


def test_a_snapshot_names_what_its_index_asks_for(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_bytes(FILES["model.safetensors.index.json"])
    (tmp_path / "model-1.safetensors").write_bytes(FILES["model-1.safetensors"])
    assert list(local_faults(tmp_path)) == [("model-2.safetensors", "is missing")]
