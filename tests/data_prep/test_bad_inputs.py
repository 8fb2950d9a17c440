"""The rows of bad and odd inputs that concern images (1-19) and records (33, 34), each in a build of its own.

Rows 20-29 (damaged shards) are in test_verify.py and test_webdataset_reader.py, 30-32, 36, 37 and 39 (hostile and
disorderly tars) in test_webdataset_reader.py, 38 (`pipe:`) in test_remote.py, 35 (nothing left to supervise) in
tests/train/data/test_collate.py, and 40 in tests/configs/test_bad_configs.py.
"""

import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from data_prep import build
from data_prep.images import check_image, decode_rgb
from data_prep.shards import ShardSet

from .conftest import picture

SIZE = (64, 48)
JPEG = picture(size=SIZE)
PLAIN = Image.open(io.BytesIO(picture(size=SIZE, kind="PNG"))).convert("RGB")


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def transparent() -> Image.Image:
    image = PLAIN.quantize(8)
    image.info["transparency"] = 0
    return image


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def animation(kind: str) -> bytes:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], **lossless)


SIXTEEN = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)

REFUSED = {
    "01-truncated-jpeg": ("x.jpg", JPEG[: len(JPEG) // 2], "does not decode"),
    "02-missing-end-of-image": ("x.jpg", JPEG[:-2], "does not decode"),
    "03-empty-image": ("x.jpg", b"", "empty file"),
    "04-html-as-jpeg": ("x.jpg", b"<!DOCTYPE html><html>404</html>", "not an image"),
    "05-random-bytes-as-jpeg": ("x.jpg", np.random.default_rng(0).bytes(900), "not an image"),
    "05-random-bytes-after-a-signature": ("x.jpg", JPEG[:3] + np.random.default_rng(0).bytes(900), "does not decode"),
    "16-bomb-above-the-limit": ("x.png", encoded(Image.new("1", (20_000, 20_000))), "too large"),
    "17-image-in-pillows-warning-band": ("x.png", encoded(Image.new("1", (10_000, 9_500))), "too large"),
}

# file name, bytes, extension in the shard, expected pixels, largest allowed difference
DECODED: dict[str, tuple[str, bytes, str, np.ndarray, int]] = {
    "06-cmyk": ("x.jpg", picture(size=SIZE, mode="CMYK", quality=95), "jpg", np.asarray(PLAIN), 60),
    "07-png-named-jpeg": ("x.JPEG", encoded(PLAIN), "png", np.asarray(PLAIN), 0),
    "08-grey": ("x.png", encoded(PLAIN.convert("L")), "png", np.asarray(PLAIN.convert("L").convert("RGB")), 0),
    "09-one-bit": ("x.png", encoded(PLAIN.convert("1")), "png", np.asarray(PLAIN.convert("1").convert("RGB")), 0),
    "10-rgba": ("x.png", encoded(PLAIN.convert("RGBA")), "png", np.asarray(PLAIN), 0),
    "11-palette-with-transparency": (
        "x.png",
        encoded(transparent()),
        "png",
        np.asarray(PLAIN.quantize(8).convert("RGB")),
        0,
    ),
    "12-sixteen-bit": (
        "x.png",
        encoded(Image.fromarray(SIXTEEN)),
        "png",
        np.repeat(np.rint(SIXTEEN / 257).astype(np.uint8)[..., None], 3, axis=2),
        0,
    ),
    "13-exif-rotated": ("x.jpg", picture(size=SIZE, exif=rotated()), "jpg", np.asarray(decode_rgb(JPEG)), 0),
    "14-corrupt-exif": (
        "x.jpg",
        picture(size=SIZE, exif=b"Exif\0\0" + b"\xff" * 64),
        "jpg",
        np.asarray(decode_rgb(JPEG)),
        0,
    ),
    "15-animated-gif": ("x.gif", animation("GIF"), "gif", np.full((8, 8, 3), (255, 0, 0)), 0),
    "15-animated-webp": ("x.webp", animation("WEBP"), "webp", np.full((8, 8, 3), (255, 0, 0)), 0),
    "18-one-by-one": ("x.png", encoded(Image.new("RGB", (1, 1), "blue")), "png", np.full((1, 1, 3), (0, 0, 255)), 0),
    "19-one-by-5000": (
        "x.png",
        encoded(Image.new("RGB", (1, 5000), "blue")),
        "png",
        np.full((5000, 1, 3), (0, 0, 255)),
        0,
    ),
}


@pytest.fixture
def build_with(class_folders: Path, write_config: Callable[..., Path], tmp_path: Path) -> Callable[..., ShardSet]:
    """Builds the twelve good pictures of two classes, and one file more."""

    def make(name: str, data: bytes) -> ShardSet:
        (class_folders / "cat" / name).write_bytes(data)
        build.main(["--config", str(write_config(class_folders, max_drop_fraction=0.1))])
        return ShardSet.open(tmp_path / "shards" / "pets")

    return make


def images_by_id(shards: ShardSet) -> dict[str, bytes]:
    samples = (shards.sample(number) for number in range(len(shards)))
    return {sample.id: sample.image for sample in samples if isinstance(sample.image, bytes)}


def good_images(folder: Path) -> dict[str, bytes]:
    return {f"pets/{file.parent.name}/{file.stem}": file.read_bytes() for file in folder.glob("*/[0-9].jpg")}


@pytest.mark.slow
@pytest.mark.parametrize("row", REFUSED)
def test_an_unusable_image_is_dropped_named_and_counted_and_nothing_else_changes(
    row, build_with, class_folders, capsys
):
    name, data, reason = REFUSED[row]
    shards = build_with(name, data)
    (drop,) = shards.manifest.drops
    assert (drop.id, drop.file) == ("cat/x", str(class_folders / "cat" / name))
    assert drop.reason.startswith(reason)
    assert f"1 of 13 records dropped\n    1 x {reason} ({class_folders / 'cat' / name})" in capsys.readouterr().out
    assert images_by_id(shards) == good_images(class_folders)


@pytest.mark.slow
@pytest.mark.parametrize("row", DECODED)
def test_an_odd_image_is_stored_untouched_and_decodes_to_the_expected_pixels(row, build_with, class_folders):
    name, data, extension, expected, tolerance = DECODED[row]
    shards = build_with(name, data)
    assert shards.manifest.drops == ()
    assert images_by_id(shards) == good_images(class_folders) | {"pets/cat/x": data}
    number = next(number for number in range(13) if shards.sample(number).id == "pets/cat/x")
    row_of_index = shards.index[number]
    assert ("", "jpg", "png", "webp", "gif")[row_of_index["extension"]] == extension
    pixels = np.asarray(decode_rgb(images_by_id(shards)["pets/cat/x"]))
    assert pixels.shape == expected.shape == (row_of_index["height"], row_of_index["width"], 3)
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


def test_row_12_sixteen_bit_is_not_saturated():
    pixels = np.asarray(decode_rgb(DECODED["12-sixteen-bit"][1]))
    assert (pixels == 255).mean() < 0.01
    assert abs(pixels.mean() / (SIXTEEN / 257).mean() - 1) < 0.01


@pytest.mark.parametrize("row", ["16-bomb-above-the-limit", "17-image-in-pillows-warning-band"])
def test_a_bomb_is_refused_before_it_is_decoded(row, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("the image is decoded"))
    tracemalloc.start()
    with pytest.raises(Exception, match="too large"):
        check_image(REFUSED[row][1])
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_rows_1_to_5_stop_a_build_beyond_the_limit_and_the_limit_is_named(class_folders, write_config, capsys):
    (class_folders / "cat" / "x.jpg").write_bytes(b"")
    with pytest.raises(SystemExit) as stop:
        build.main(["--config", str(write_config(class_folders))])
    assert stop.value.code == 2
    assert "max_drop_fraction" in capsys.readouterr().err


TALK = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]
RECORDS = {
    "33-empty-caption": ({"conversations": [TALK[0], {"from": "gpt", "value": " "}]}, "empty answer"),
    "34-image-token-missing": ({"conversations": [{"from": "human", "value": "What?"}, TALK[1]]}, "wrong number of"),
    "34-image-token-doubled": (
        {"conversations": [{"from": "human", "value": "<image><image>What?"}, TALK[1]]},
        "wrong number of",
    ),
    "34-image-token-in-an-answer": (
        {"conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "<image>"}]},
        "misplaced",
    ),
    "34-image-token-without-an-image": ({"conversations": TALK, "image": None}, "wrong number of"),
}


@pytest.mark.parametrize("row", RECORDS)
def test_a_record_that_would_teach_nonsense_is_dropped_and_the_others_stay(row, tmp_path, write_config):
    changes, reason = RECORDS[row]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(JPEG)
    good = {"image": "a.jpg", "conversations": TALK}
    bad = {key: value for key, value in (good | changes).items() if value is not None}
    (tmp_path / "talk.json").write_text(json.dumps([good, bad, good]))
    config = write_config(
        tmp_path / "talk.json", "llava", f"{{image_roots: {tmp_path / 'images'}}}", max_drop_fraction=0.5
    )
    build.main(["--config", str(config)])
    shards = ShardSet.open(tmp_path / "shards" / "pets")
    (drop,) = shards.manifest.drops
    assert drop.reason.startswith(reason)
    assert [shards.sample(number).turns[1].text for number in range(len(shards))] == ["A cat.", "A cat."]


@pytest.mark.parametrize("label", [-2, 2, 1000])
def test_row_33_a_label_outside_the_classes_is_a_named_drop(label, tmp_path, write_config, picture):
    import tarfile

    (tmp_path / "names.txt").write_text("cat\ndog\n")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for key, value in (("0", 1), ("1", label), ("2", 0)):
            for name, data in ((f"{key}.jpg", JPEG), (f"{key}.cls", str(value).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    options = f"{{class_names: {tmp_path / 'names.txt'}}}"
    build.main(["--config", str(write_config(tmp_path / "a.tar", "webdataset", options, max_drop_fraction=0.5))])
    shards = ShardSet.open(tmp_path / "shards" / "pets")
    assert [drop.id for drop in shards.manifest.drops] == ["a/1"]
    assert "label" in shards.manifest.drops[0].reason
    assert shards.labels.tolist() == [1, 0]
