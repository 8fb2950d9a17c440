"""Train and test that do not fit: classes, one folder given twice, images in both; said by the build and its check."""

import io
import re
import shutil
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from configs.data import DataConfig, SourceConfig
from configs.model import ModelConfig
from configs.run import RunConfig
from configs.training import TrainConfig
from data_prep import overlap
from data_prep.shard_index import image_hash
from data_prep.shards import ShardSet
from data_prep.train_test_check import SourceContent, conflict_notes, mismatch_warnings, source_roles

from .conftest import fails, picture, run


@pytest.fixture
def folders(tmp_path):
    """Writes class folders {class: seeds of its images} below a name."""

    def write(name, classes):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        for label, seeds in classes.items():
            (tmp_path / name / label).mkdir(parents=True)
            for seed in seeds:
                (tmp_path / name / label / f"{seed}.jpg").write_bytes(picture(seed))

    return write


@pytest.fixture
def build(tmp_path, capsys):
    """Builds the sources train and test (or those given, name to folder); returns what was said on stderr."""

    def make(*arguments, kind="run", **paths):
        paths = paths or {"train": "train", "test": "test"}
        head = "name: r\nmodel: {base: none}\ntrain: {sources: [train], heldout: [test]}\n"
        if kind == "evaluation":
            head = "name: e\nmodel: none\nsource: test\nprobe_source: train\nprotocol: {task: open_world}\n"
        lines = [f"{head}data:", f"  shards: {tmp_path / 'shards'}", "  sources:"]
        lines += [f"    {name}: {{reader: image_folder, path: {tmp_path / path}}}" for name, path in paths.items()]
        (tmp_path / "config.yaml").write_text("\n".join(lines) + "\n")
        capsys.readouterr()
        run("--config", tmp_path / "config.yaml", *arguments)
        return capsys.readouterr()

    return make


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "evaluation"])
@pytest.mark.parametrize(
    "arguments", [[], ["--check-only"], ["--processes", "2"], ["--check-only", "--processes", "2"]]
)
def test_images_in_both_are_counted_and_named_by_the_build_and_its_check(folders, build, tmp_path, kind, arguments):
    folders("train", {"cat": [1, 2, 3], "dog": [4, 5]})
    folders("test", {"cat": [2, 9], "dog": [3, 5]})
    said = build(*arguments, kind=kind).err
    assert "3 of 4 images of test are also in the training source train, 1 of them with another class" in said
    assert ", such as test/cat/2 = train/cat/2" in said
    command = f"; all: python -m data_prep.overlap {tmp_path}/shards/train {tmp_path}/shards/test\n"
    assert (command in said) == ("--check-only" not in arguments), "a check builds nothing that could be read"
    folders("test", {"cat": [9], "dog": [10]})
    shutil.rmtree(tmp_path / "shards", ignore_errors=True)
    assert "images of test" not in build(*arguments, kind=kind).err


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["--check-only"]])
@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ({"cat": [11], "dog": [12]}, []),
        (
            {"cat": [11], "ape": [12]},
            ["1 of 2 classes of test, 1 of 2 items, are not in the training source train: 'ape' (1)"],
        ),
        ({"cat": [11], "ape": [12]}, ["classes of the training source train without an item in test (1): dog"]),
        ({"Cat": [11], "dog": [12]}, ["such as 'Cat' and 'cat'"]),
        ({"cat": [11]}, ["test has no item of 1 of the 2 classes of train"]),
        ({"ape": [11]}, ["no class of test is a class of the training source train"]),
        ({"cat": [11], "dog": []}, ["test has no item of 1 of the 2 classes of train"]),
    ],
)
def test_classes_that_differ_are_said_with_both_sides(folders, build, arguments, test, expected):
    folders("train", {"cat": [1, 2], "dog": [4, 5]})
    folders("test", test)
    said = build(*arguments).err
    assert all(text in said for text in expected)
    assert ("train and test: " in said) == bool(expected)


def test_a_folder_given_twice_is_said_before_the_build_starts(folders, build, tmp_path):
    folders("train", {"cat": [1], "dog": [4]})
    (tmp_path / "link").symlink_to(tmp_path / "train")
    for paths in ({"train": "train", "test": "train"}, {"train": "train", "test": "link"}):
        said = build("--check-only", **paths).err
        assert "train and test: the sources train and test read the same data" in said
        assert "2 of 2 images of test are also in the training source train" in said
        assert "are both the same data?" in said
    shutil.copytree(tmp_path / "train", tmp_path / "copy")
    assert "are both the same data?" in build(train="train", test="copy").err


def test_empty_classes_and_images_in_several_classes_of_one_source_are_said(folders, build, capsys):
    folders("train", {"cat": [1, 2], "dog": [2], "empty class": []})
    folders("test", {"cat": [7]})
    said = build()
    assert "classes without a sample (1): empty class" in said.out
    assert "all samples have the same class, cat" in said.out
    assert "1 image of train is in several of its classes, such as train/cat/2 = train/dog/2; all: " in said.err
    (command,) = re.findall(r"all: python -m data_prep.overlap (\S+ \S+)\n", said.err)
    overlap.main(command.split())
    assert "train/cat/2 = train/dog/2 (the same bytes)\n1 pair of images" in capsys.readouterr().out


def test_a_kept_set_of_another_build_is_compared_too(folders, build):
    folders("train", {"cat": [1], "dog": [4]})
    folders("test", {"cat": [1], "dog": [9]})
    build("--sources", "train")
    assert "1 of 2 images of test are also in the training source train" in build("--sources", "test").err


def test_test_sources_of_a_run_are_held_out_or_of_its_evaluations(tmp_path):
    sources = {name: SourceConfig(reader="demo") for name in ("all", "few", "held", "asked")}
    train = TrainConfig(sources=("few",), heldout=("held",))
    run = RunConfig(name="r", model=ModelConfig(base="b"), data=DataConfig(sources=sources), train=train)
    assert source_roles(run) == (("few",), ("held",)), "the few are some of all: no test source"
    (tmp_path / "e.yaml").write_text("name: e\nmodel: none\nsource: asked\nprotocol: {task: open_world}\n")
    evaluated = replace(run, evaluate=(str(tmp_path / "e.yaml"), str(tmp_path / "not there.yaml")))
    assert source_roles(evaluated) == (("few",), ("held", "asked"))
    assert source_roles(replace(run, train=replace(train, heldout=()))) == (("few",), ("all", "held", "asked"))


def test_workers_leave_the_comparison_to_the_one_that_finalises(folders, build):
    folders("train", {"cat": [1], "dog": [4]})
    folders("test", {"cat": [1], "dog": [9]})
    assert "train and test" not in build("--worker", "0", "--workers", "2").err
    build("--worker", "1", "--workers", "2")
    assert "1 of 2 images of test are also in" in build("--finalise").err


def test_stored_hashes_are_those_of_the_images_and_of_no_use_if_damaged(built):
    found = built.image_hashes()
    assert found.tolist() == [image_hash(built.sample(n).image) for n in range(len(built))]
    np.save(built.folder / "image_xxh3.npy", found[:-1])
    assert built.image_hashes() is None
    (built.folder / "image_xxh3.npy").write_bytes(b"torn")
    assert built.image_hashes() is None
    content = SourceContent.of("pets", ShardSet.open(built.folder))
    other = SourceContent.of("others", ShardSet.open(built.folder))
    assert "was not checked" in mismatch_warnings([content], [other])[0]
    assert conflict_notes(content) == []


def test_texts_without_an_image_are_no_images_that_are_in_both():
    nothing = np.array(["", "", ""], dtype=object)
    first, second = (SourceContent(name, {}, np.zeros(3, np.uint64), nothing, str) for name in ("a", "b"))
    assert mismatch_warnings([first], [second]) == []


def test_different_pngs_of_the_same_size_and_crc32_are_different_images(folders, build, tmp_path):
    """Each part of a PNG ends with its own crc32: of 2,000 images two have the same crc32 almost certainly."""
    found = {}
    for seed in range(2000):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, format="PNG", compress_level=0)
        data = buffer.getvalue()
        if (twin := found.setdefault(zlib.crc32(data), data)) != data:
            break
    assert twin != data and len(twin) == len(data)
    folders("train", {"cat": [], "dog": [1]})
    folders("test", {"cat": [], "dog": [2]})
    (tmp_path / "train/cat/a.png").write_bytes(twin)
    (tmp_path / "test/cat/a.png").write_bytes(data)
    assert "train and test" not in build().err


def test_a_source_that_fails_is_still_one_error(folders, tmp_path, build, capsys):
    folders("train", {"cat": [1]})
    folders("test", {"cat": []})
    with pytest.raises(SystemExit):
        build()
    capsys.readouterr()
    assert "has no records" in fails(capsys, "--config", tmp_path / "config.yaml")


def test_training_sources_that_spell_one_class_differently_are_named():
    nothing = np.array([], dtype=object)
    first, second = (
        SourceContent(name, counts, np.zeros(0, np.uint64), nothing, str)
        for name, counts in (("a", {"Cat": 1, "dog": 2, "Ape": 0}), ("b", {"cat": 1, "dog": 1, "ape": 3}))
    )
    assert mismatch_warnings([first, second], []) == [
        "training sources spell one class differently: 'Cat' (a), 'cat' (b)"
    ]
    assert mismatch_warnings([first, first], []) == []
