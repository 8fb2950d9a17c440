import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import build, overlap
from data_prep.shards import ShardSet

ROOT = Path(__file__).resolve().parents[2]


def jpeg(image: Image.Image, quality: int = 75) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


@pytest.fixture
def photographs(shared_data) -> list[bytes]:
    with tarfile.open(shared_data / "imagenet_sample.tar") as tar:
        return [tar.extractfile(member).read() for member in tar.getmembers()[:60]]


@pytest.fixture
def shard_set(tmp_path, write_config):
    def make(name: str, images: dict[str, bytes]) -> ShardSet:
        folder = tmp_path / f"{name}_raw" / "thing"
        folder.mkdir(parents=True)
        for key, data in images.items():
            (folder / f"{key}.jpg").write_bytes(data)
        build.main(["--config", str(write_config(folder.parent, shards=tmp_path / name, decode_check="false"))])
        return ShardSet.open(tmp_path / name / "pets")

    return make


def test_the_example_of_a_list_of_images_builds_as_it_is_and_an_overlap_names_the_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("configs").symlink_to(ROOT / "configs")
    for name, seeds in (("train", (1, 2)), ("test", (2, 3))):
        lines = [f"{label}/{seed}.jpg,{label}" for seed in seeds for label in ("dogs", "cats")]
        Path("data/my_images/dogs").mkdir(parents=True, exist_ok=True)
        Path("data/my_images/cats").mkdir(parents=True, exist_ok=True)
        for number, line in enumerate(lines):
            colour = (60 * seeds[number // 2], 40 + 90 * (number % 2), 0)
            Path("data/my_images", line.partition(",")[0]).write_bytes(jpeg(Image.new("RGB", (24, 16), colour)))
        Path(f"data/my_images/{name}.csv").write_text("\n".join(["file,class", *lines]) + "\n")
    build.main(["--config", "configs/image_list.yaml"])
    pair = "test/0000000 (dogs/2.jpg) = train/0000002 (dogs/2.jpg)"
    command = "python -m data_prep.overlap shards/image_list/train shards/image_list/test"
    assert f"2 of 4 images of test are also in the training source train, such as {pair}; all: {command}\n" in (
        capsys.readouterr().err
    )
    overlap.main(command.split()[3:])
    assert f"{pair} (the same bytes)" in capsys.readouterr().out


def test_copies_recompressed_and_resized_photographs_are_found_and_no_others(photographs, shard_set, tmp_path, capsys):
    train = shard_set("train", {f"{number:02d}": data for number, data in enumerate(photographs[:40])})
    small = Image.open(io.BytesIO(photographs[1])).convert("RGB")
    tests = {
        "copy": photographs[0],
        "resized": jpeg(small.resize((small.width // 2, small.height // 2), Image.Resampling.BICUBIC)),
        "worse": jpeg(Image.open(io.BytesIO(photographs[2])).convert("RGB"), quality=30),
    }
    others = {f"other{number}": data for number, data in enumerate(photographs[40:])}
    evaluation = shard_set("test", tests | others)
    overlap.main([str(train.folder), str(evaluation.folder), "--output", str(tmp_path / "twins.json")])
    twins = json.loads((tmp_path / "twins.json").read_text())
    assert {(twin["evaluation_id"], twin["training_id"]) for twin in twins} == {
        ("pets/thing/copy", "pets/thing/00"),
        ("pets/thing/resized", "pets/thing/01"),
        ("pets/thing/worse", "pets/thing/02"),
    }
    assert "1 of 23 evaluation images are byte for byte among 40 training images, 2 more look alike" in (
        capsys.readouterr().out
    )


def test_pictures_without_contrast_are_compared_byte_by_byte_only(shard_set):
    grey = [jpeg(Image.new("RGB", (32, 32), (value,) * 3)) for value in (90, 120)]
    train, evaluation = shard_set("train", {"a": grey[0]}), shard_set("test", {"a": grey[0], "b": grey[1]})
    hashes = [overlap.hash_set(shards) for shards in (train, evaluation)]
    assert not hashes[0].contrast.any()
    twins = overlap.find_duplicate_pairs(train, hashes[0], evaluation, hashes[1], 6)
    assert [(twin.evaluation_id, twin.distance) for twin in twins] == [("pets/thing/a", -1)]


def test_pictures_that_do_not_decode_are_named_and_compared_byte_by_byte(shard_set, picture, capsys):
    broken = picture(size=(64, 64))[:-30]
    train = shard_set("train", {"a": broken, "b": picture(1)})
    evaluation = shard_set("test", {"a": broken, "b": picture(2)})
    overlap.main([str(train.folder), str(evaluation.folder)])
    out, err = capsys.readouterr()
    assert "pets/thing/a = pets/thing/a (the same bytes)" in out
    assert "1 of 2 evaluation images are byte for byte among 2 training images, 0 more look alike" in out
    assert err.count("does not decode: ") == 2
    assert "sample 0 of " in err


def test_steps_and_processes_do_not_change_what_is_found(photographs, shard_set, monkeypatch):
    train = shard_set("train", {f"{number:02d}": data for number, data in enumerate(photographs[:12])})
    hashes = overlap.hash_set(train)
    both = overlap.hash_set(train, processes=2)
    assert np.array_equal(hashes.looks, both.looks)
    assert np.array_equal(hashes.exact, both.exact)
    whole = overlap.find_duplicate_pairs(train, hashes, train, hashes, 6)
    monkeypatch.setattr(overlap, "COMPARISONS", 5)
    assert overlap.find_duplicate_pairs(train, hashes, train, hashes, 6) == whole
    assert [twin.distance for twin in whole] == [-1] * 12
