"""Images as people have them: any suffix, more formats, more bits; the build counts and names what it changes."""

import io
import json

import numpy as np
import pytest
from PIL import Image, features

from data_prep import build
from data_prep.image_notes import image_notes
from data_prep.images import ImageError, decode_rgb, true_extension
from data_prep.readers import image_folder, llava
from data_prep.sample import Drop
from data_prep.shards import ShardSet

from .conftest import picture
from .test_bad_inputs import animation, encoded, rotated, transparent

PLAIN = Image.open(io.BytesIO(picture(size=(64, 48), kind="PNG"))).convert("RGB")
NOTED = {
    "exif": (picture(exif=rotated()), "EXIF orientation other than normal, not applied"),
    "cmyk": (picture(mode="CMYK"), "CMYK, converted to RGB without a colour profile"),
    "gif": (animation("GIF"), "several frames, the first is used"),
    "webp": (animation("WEBP"), "several frames, the first is used"),
    "png": (animation("PNG"), "several frames, the first is used"),
    "tiff": (animation("TIFF"), "several frames, the first is used"),
    "palette": (encoded(transparent()), "transparency, dropped"),
    "rgba": (encoded(Image.new("RGBA", (8, 8), (1, 2, 3, 90))), "transparency, dropped"),
    "la": (encoded(Image.new("LA", (8, 8), (9, 0))), "transparency, dropped"),
    "16-bit": (encoded(Image.fromarray(np.full((4, 4), 60_000, np.uint16))), "grey of 16 bits, scaled to 8"),
    "12-in-16": (
        encoded(Image.fromarray(np.full((4, 4), 4095, np.uint16))),
        "16-bit grey whose values end at 4095, nearly black: stretch them first",
    ),
    "10-in-16-tiff": (
        encoded(Image.fromarray(np.full((4, 4), 1000, np.uint16)), "TIFF"),
        "16-bit grey whose values end at 1023, nearly black: stretch them first",
    ),
}
SILENT = {
    "jpeg": picture(),
    "grey": picture(mode="L"),
    "normal-exif": picture(exif=Image.Exif()),
    "opaque-rgba": encoded(Image.new("RGBA", (8, 8), (1, 2, 3, 255))),
    "one-frame-gif": picture(kind="GIF", mode="P"),
    "corrupt-exif": picture(exif=b"Exif\0\0" + b"\xff" * 64),
}


@pytest.mark.parametrize("data, kind", NOTED.values(), ids=NOTED)
def test_an_image_that_is_not_shown_as_stored_is_noted(data, kind):
    assert image_notes(data, decoded=True) == (kind,)


@pytest.mark.parametrize("data", SILENT.values(), ids=SILENT)
def test_ordinary_images_are_not_noted(data):
    assert image_notes(data, decoded=True) == ()


def test_the_build_counts_them_in_its_summary_and_the_manifest(class_folders, write_config, tmp_path, capsys):
    for name, (data, _) in NOTED.items():
        (class_folders / "cat" / f"x-{name}.png").write_bytes(data)
    build.main(["--config", str(write_config(class_folders)), "--check-only"])
    checked = capsys.readouterr().out
    build.main(["--config", str(write_config(class_folders)), "--processes", "2"])
    shown = capsys.readouterr().out
    for text in (checked, shown):
        assert "    4 x several frames, the first is used (cat/x-gif, cat/x-png, cat/x-tiff, ...)\n" in text
        assert "    1 x EXIF orientation other than normal, not applied (cat/x-exif)\n" in text
        assert "    3 x transparency, dropped (cat/x-la, cat/x-palette, cat/x-rgba)" in text
    manifest = ShardSet.open(tmp_path / "shards/pets").manifest
    assert manifest.notes["CMYK, converted to RGB without a colour profile"].ids == ("cat/x-cmyk",)
    assert json.loads(manifest.to_json())["notes"]["grey of 16 bits, scaled to 8"] == [1, ["cat/x-16-bit"]]
    build.main(["--config", str(write_config(class_folders))])  # kept shards say the same
    assert ShardSet.open(tmp_path / "shards/pets").manifest.notes == manifest.notes


def tiff_of_bits(values: np.ndarray, bits: int) -> bytes:
    """A grey TIFF whose tag BitsPerSample says `bits`, packed as the format wants it."""
    text = "".join(f"{value:0{bits}b}" for value in values.ravel())
    packed = int(text, 2).to_bytes(len(text) // 8, "big")
    height, width = values.shape
    tags = [
        (256, width),
        (257, height),
        (258, bits),
        (259, 1),
        (262, 1),
        (273, 0),
        (277, 1),
        (278, height),
        (279, len(packed)),
    ]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        tag.to_bytes(2, "little") + (4).to_bytes(2, "little") + (1).to_bytes(4, "little")
        + (start if tag == 273 else value).to_bytes(4, "little")
        for tag, value in tags
    )  # fmt: skip
    return b"II*\0" + (8).to_bytes(4, "little") + len(tags).to_bytes(2, "little") + entries + bytes(4) + packed


def test_a_tiff_that_states_12_bits_is_scaled_by_them():
    data = tiff_of_bits(np.array([[0, 1024], [2048, 4095]]), 12)
    assert np.asarray(decode_rgb(data))[..., 0].tolist() == [[0, 64], [128, 255]]
    assert image_notes(data, decoded=True) == ("grey of 12 bits, scaled to 8",)


def test_16_bit_pixels_are_scaled_and_others_than_16_bits_have_no_white():
    values = np.array([[0, 257, 32_896, 65_535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        assert np.asarray(decode_rgb(encoded(Image.fromarray(values), kind)))[0, :, 0].tolist() == [0, 1, 128, 255]
    for wrong in ([[0, 70_000]], [[-1, 5]]):
        with pytest.raises(ImageError, match="unknown range: pixels from"):
            decode_rgb(encoded(Image.fromarray(np.array(wrong, np.int32)), "TIFF"))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_avif_is_read_where_pillow_reads_it_and_named_where_not(class_folders, write_config, tmp_path, monkeypatch):
    data = encoded(Image.new("RGB", (16, 8), (200, 10, 10)), "AVIF")
    (class_folders / "cat/new.avif").write_bytes(data)
    build.main(["--config", str(write_config(class_folders))])
    shards = ShardSet.open(tmp_path / "shards/pets")
    number = [shards.sample(i).id for i in range(13)].index("pets/cat/new")
    assert (shards.index[number]["width"], shards.index[number]["height"]) == (16, 8)
    assert np.abs(np.asarray(decode_rgb(shards.sample(number).image)).astype(int) - (200, 10, 10)).max() < 6
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(ImageError, match="format not read: AVIF, which this Pillow was built without"):
        true_extension(data)


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"\0\0\0\x1cftypheic" + bytes(20), "format not read: HEIC; convert it"),
        (b"\0\0\0\x1cftypisom" + bytes(20), "format not read: a video"),
        (b"\xff\x0a" + bytes(20), "format not read: JPEG XL"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "format not read: SVG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer: the image is not there"),
    ],
)
def test_formats_that_are_not_read_are_named(data, reason):
    with pytest.raises(ImageError, match=reason):
        true_extension(data)


def test_any_suffix_or_none_is_read_by_content_in_class_folders(tmp_path, write_config):
    root = tmp_path / "raw"
    (root / "cat").mkdir(parents=True)
    names = ["a.jfif", "b.jpe", "c.JPEG", "d", "e.image", "f.JPG_large", "g.jpg!w=200", "h.1"]
    for number, name in enumerate(names):
        (root / "cat" / name).write_bytes(picture(number))
    (root / "cat/phone.heic").write_bytes(b"\0\0\0\x1cftypheic" + bytes(20))
    (root / "cat/notes.doc").write_bytes(b"words")
    build.main(["--config", str(write_config(root, max_drop_fraction=0.5))])
    shards = ShardSet.open(tmp_path / "shards/pets")
    assert len(shards) == len(names)
    assert {drop.id: drop.reason for drop in shards.manifest.drops} == {
        "cat/notes": "not an image file: its name ends in .doc",
        "cat/phone": "format not read: HEIC; convert it to JPEG or PNG",
    }
    limited = list(image_folder.read(root, per_class_limit=3).records)
    assert len(limited) == 3
    assert not any(isinstance(record, Drop) for record in limited)


def test_conversations_find_an_image_whose_suffix_is_another_or_missing(tmp_path):
    for name in ("a.jfif", "b"):
        (tmp_path / name).write_bytes(picture())
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]
    (tmp_path / "data.json").write_text(json.dumps([{"image": f"{n}.jpg", "conversations": turns} for n in "ab"]))
    assert [record.image.name for record in llava.read(tmp_path / "data.json").records] == ["a.jfif", "b"]
