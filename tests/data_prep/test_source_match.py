"""Shards of other data than a configuration describes are never read without a word."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from configs.data import DataConfig, SourceConfig
from configs.errors import DataError
from data_prep import build
from data_prep.manifest import read_manifest
from data_prep.source_match import absent_paths, check_source_of, open_shards
from eval import run as evaluation

Described = Callable[..., DataConfig]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two folders of class folders, `old` and `new`; shards of `old`, built by the program."""
    for name, colour in (("old", "red"), ("new", "blue")):
        for label in ("cat", "dog"):
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            Image.new("RGB", (8, 8), colour).save(folder / f"{label}.png")
    config = tmp_path / "eval.yaml"
    config.write_text(
        f"name: look\nmodel: train/assets/tiny_llava\nsource: test\ndata:\n"
        f"  shards: {tmp_path / 'shards'}\n  sources:\n"
        f"    test: {{reader: image_folder, path: {tmp_path / 'old'}}}\nprotocol: {{system_prompt: none}}\n"
    )
    build.main(["--config", str(config)])
    return tmp_path


@pytest.fixture
def described(root: Path) -> Described:
    """The data section with another path, reader or options."""

    def make(path: Path | str | None = None, reader: str = "image_folder", **options: object) -> DataConfig:
        source = SourceConfig(reader=reader, path=str(root / "old" if path is None else path), options=options)
        return DataConfig(shards=str(root / "shards"), sources={"test": source})

    return make


def test_the_data_that_was_built_is_accepted(described: Described) -> None:
    assert len(open_shards(described(), "test")) == 2


def test_options_at_their_defaults_are_the_same_as_options_that_are_left_out(described: Described) -> None:
    assert len(open_shards(described(prompt="paper", order=None), "test")) == 2


def test_another_spelling_of_the_path_is_the_same_path(root: Path, described: Described) -> None:
    (root / "link").symlink_to(root / "old")
    assert len(open_shards(described(f"{root}/new/../old/"), "test")) == 2
    assert len(open_shards(described(root / "link"), "test")) == 2


@pytest.mark.parametrize("name", ["new", "nowhere"])
def test_another_path_is_refused_whether_it_exists_or_not(root: Path, described: Described, name: str) -> None:
    with pytest.raises(DataError, match=rf"path is {root / name} and was {root / 'old'}\. Set data\.sources\.test"):
        open_shards(described(root / name), "test")


def test_another_reader_and_other_options_are_refused_with_both_values(described: Described) -> None:
    with pytest.raises(DataError, match="reader is jsonl and was image_folder"):
        open_shards(described(reader="jsonl"), "test")
    with pytest.raises(DataError, match=r"options\.class_names is 'imagenet' and was None"):
        open_shards(described(class_names="imagenet"), "test")


def test_an_evaluation_may_be_built_with_another_stored_question(described: Described) -> None:
    other = described(prompt="identify")
    assert len(open_shards(other, "test", evaluated=True)) == 2
    with pytest.raises(DataError, match=r"options\.prompt is 'identify' and was 'paper'"):
        open_shards(other, "test")


def test_a_path_that_is_only_absent_here_is_accepted_and_named(root: Path, described: Described) -> None:
    shutil.rmtree(root / "old")
    data = described()
    assert len(open_shards(data, "test")) == 2
    (note,) = absent_paths(data, ["test", "test"])
    assert f"its path {root / 'old'} is not on this machine" in note


def test_a_source_that_is_not_described_is_not_compared(root: Path) -> None:
    manifest = read_manifest(root / "shards" / "test")
    check_source_of(manifest, DataConfig(shards=str(root / "shards")), "test")


def test_a_build_from_a_moved_folder_keeps_the_shards_and_records_the_new_path(root: Path) -> None:
    before = read_manifest(root / "shards" / "test")
    (root / "old").rename(root / "moved")
    build.main(["--config", str(root / "eval.yaml"), "--set", f"data.sources.test.path={root / 'moved'}"])
    after = read_manifest(root / "shards" / "test")
    assert (after.path, after.fingerprint) == (str(root / "moved"), before.fingerprint)


@pytest.mark.parametrize("extra", [["--dry-run"], ["--report-only"], []])
def test_every_way_to_start_an_evaluation_refuses_shards_of_another_folder(
    root: Path, capsys: pytest.CaptureFixture[str], extra: list[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        evaluation.main(
            ["--config", str(root / "eval.yaml"), "--set", f"data.sources.test.path={root / 'new'}", *extra]
        )
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert f"path is {root / 'new'} and was {root / 'old'}" in error
    assert len([line for line in error.splitlines() if not line.startswith("look: loading ")]) == 1


def test_the_dry_run_of_an_evaluation_says_that_raw_data_is_absent(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(root / "old")
    evaluation.main(["--config", str(root / "eval.yaml"), "--dry-run"])
    assert "raw data    test: its path" in capsys.readouterr().out


def test_a_training_refuses_shards_of_another_folder(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.tools import order

    config = root / "run.yaml"
    config.write_text(
        f"name: r\nmodel: {{base: train/assets/tiny_llava}}\ntrain: {{sources: [test]}}\ndata:\n"
        f"  shards: {root / 'shards'}\n  sources:\n    test: {{reader: image_folder, path: {root / 'new'}}}\n"
    )
    monkeypatch.setattr(sys, "argv", ["order", "--config", str(config), "--world", "1"])
    with pytest.raises(SystemExit) as stop:
        order.main()
    assert stop.value.code == 2
    assert f"path is {root / 'new'} and was {root / 'old'}" in capsys.readouterr().err
