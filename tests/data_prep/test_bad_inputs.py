"""Nineteen kinds of bad or odd image in one source: each is dropped with its reason or decoded to defined pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from data_prep import build
from data_prep.images import decode_rgb
from data_prep.shards import ShardSet


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.fixture
def oddities(picture) -> dict[str, bytes]:
    jpeg = picture(size=(64, 48))
    plain = Image.open(io.BytesIO(picture(size=(64, 48), kind="PNG")))
    rotated = Image.Exif()
    rotated[0x0112] = 6
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    transparent = plain.convert("P")
    transparent.info["transparency"] = 0
    return {
        "bad_truncated.jpg": jpeg[: len(jpeg) // 2],
        "bad_no_end.jpg": jpeg[:-2],
        "bad_empty.jpg": b"",
        "bad_html.jpg": b"<!DOCTYPE html><html>404</html>",
        "bad_random.jpg": np.random.default_rng(0).bytes(900),
        "bad_bomb.png": encoded(Image.new("1", (20_000, 20_000))),
        "bad_large.png": encoded(Image.new("1", (10_000, 9_500))),
        "cmyk.jpg": picture(mode="CMYK"),
        "png_named.JPEG": encoded(plain),
        "grey.jpg": picture(mode="L"),
        "one_bit.png": encoded(plain.convert("1")),
        "rgba.png": encoded(plain.convert("RGBA")),
        "palette.png": encoded(transparent),
        "sixteen.png": encoded(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040)),
        "rotated.jpg": picture(size=(64, 48), exif=rotated),
        "corrupt_exif.jpg": picture(size=(64, 48), exif=b"Exif\0\0" + b"\xff" * 64),
        "animated.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "dot.png": encoded(Image.new("RGB", (1, 1), "blue")),
        "strip.png": encoded(Image.new("RGB", (1, 5000), "blue")),
    }


@pytest.fixture
def odd_set(oddities, tmp_path, write_config) -> ShardSet:
    folder = tmp_path / "raw" / "odd"
    folder.mkdir(parents=True)
    for name, data in oddities.items():
        (folder / name).write_bytes(data)
    build.main(["--config", str(write_config(folder.parent, max_drop_fraction=0.5))])
    return ShardSet.open(tmp_path / "shards/pets")


def test_exactly_the_unusable_images_are_dropped_each_with_its_reason(odd_set, tmp_path):
    kinds = {drop.id.removeprefix("odd/"): drop.reason.partition(":")[0] for drop in odd_set.manifest.drops}
    assert kinds == {
        "bad_truncated": "does not decode",
        "bad_no_end": "does not decode",
        "bad_empty": "empty file",
        "bad_html": "not an image",
        "bad_random": "not an image",
        "bad_bomb": "too large",
        "bad_large": "too large",
    }
    assert all(drop.file.startswith(str(tmp_path / "raw/odd/bad_")) for drop in odd_set.manifest.drops)
    assert (odd_set.manifest.records, len(odd_set)) == (19, 12)


def test_the_others_are_stored_untouched_under_their_true_format_and_decode(odd_set, oddities):
    extensions = {"jpg": 1, "png": 2, "gif": 4}
    by_stem = {name.partition(".")[0]: data for name, data in oddities.items()}
    for number in range(len(odd_set)):
        sample = odd_set.sample(number)
        stem = sample.id.rpartition("/")[2]
        assert sample.image == by_stem[stem]
        true = {"png_named": "png", "animated": "gif"}.get(stem, "jpg" if sample.image[:2] == b"\xff\xd8" else "png")
        assert odd_set.index["extension"][number] == extensions[true]
        assert decode_rgb(sample.image).mode == "RGB"
        assert decode_rgb(sample.image).size == (odd_set.index["width"][number], odd_set.index["height"][number])


def test_their_pixels_are_the_defined_ones(oddities):
    pixels = {name: np.asarray(decode_rgb(data)) for name, data in oddities.items() if not name.startswith("bad_")}
    assert np.array_equal(pixels["sixteen.png"][..., 0].ravel(), np.rint(np.arange(64) * 1040 / 257))
    assert pixels["animated.gif"][0, 0].tolist() == [255, 0, 0]
    assert pixels["rotated.jpg"].shape == (48, 64, 3)
    assert np.array_equal(pixels["rgba.png"], pixels["png_named.JPEG"])
    assert set(np.unique(pixels["one_bit.png"])) == {0, 255}
    assert (pixels["grey.jpg"][..., 0] == pixels["grey.jpg"][..., 2]).all()
    assert pixels["strip.png"].shape == (5000, 1, 3)
