"""EXIF orientation: ignored by default, applied by `data.exif: apply`, and every way to the pixels agrees."""

import io
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from data_prep import build
from data_prep.images import check_image, decode_grey, decode_rgb, image_size
from data_prep.inspect import describe
from data_prep.manifest import Manifest
from data_prep.orientation import UprightImage
from data_prep.shards import ShardSet

from .conftest import picture

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"JPEG": {}, "PNG": {}, "WEBP": {"lossless": True}}


def photograph(orientation: int, kind: str = "JPEG") -> bytes:
    """24 x 16 pixels as a camera stores them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return picture(kind=kind, exif=exif, **KINDS.get(kind, {}))


def upright(data: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_upright_image_is_turned_as_pillow_turns_it(orientation, kind):
    data = photograph(orientation, kind)
    turned = np.asarray(decode_rgb(UprightImage(data)))
    assert np.array_equal(turned, upright(data))
    assert image_size(UprightImage(data)) == check_image(UprightImage(data)) == turned.shape[1::-1]
    assert decode_rgb(data).size == image_size(data) == (24, 16)
    grey = decode_grey(UprightImage(data), (4, 4))
    assert (grey.width > grey.height) == (orientation < 5)


def test_a_tiff_is_turned_once_by_pillow_in_both_cases():
    data = photograph(6, "TIFF")
    assert decode_rgb(data).size == decode_rgb(UprightImage(data)).size == (16, 24)
    assert np.array_equal(np.asarray(decode_rgb(data)), np.asarray(decode_rgb(UprightImage(data))))


def test_an_upright_image_stays_one_on_its_way_to_another_process():
    assert isinstance(pickle.loads(pickle.dumps(UprightImage(b"x"))), UprightImage)


@pytest.fixture
def photographs(class_folders: Path) -> Path:
    for orientation in range(1, 9):
        (class_folders / "cat" / f"photo{orientation}.jpg").write_bytes(photograph(orientation))
    return class_folders


def built(config: Path, *arguments: str) -> ShardSet:
    build.main(["--config", str(config), *arguments])
    return ShardSet.open(Path(re.search(r"shards: (\S+)", config.read_text())[1]) / "pets")


def test_a_build_that_applies_it_stores_the_same_bytes_and_hands_them_out_upright(
    photographs, write_config, tmp_path, capsys
):
    ignored = built(write_config(photographs))
    assert "7 x EXIF orientation other than normal, not applied (cat/photo2," in capsys.readouterr().out
    applied = built(write_config(photographs, exif="apply", shards=tmp_path / "upright"))
    assert "7 x EXIF orientation other than normal, applied (cat/photo2," in capsys.readouterr().out
    assert ignored.fingerprint != applied.fingerprint
    assert [entry.sha256 for entry in ignored.manifest.shards] == [entry.sha256 for entry in applied.manifest.shards]
    for number in range(len(ignored)):
        stored, turned = ignored.sample(number).image, applied.sample(number).image
        assert bytes(stored) == bytes(turned)
        assert not isinstance(stored, UprightImage)
        assert np.array_equal(np.asarray(decode_rgb(turned)), upright(bytes(stored)))
        size = decode_rgb(turned).size
        assert (applied.index[number]["width"], applied.index[number]["height"]) == size
    photo = next(sample for n in range(len(applied)) if (sample := applied.sample(n)).id == "pets/cat/photo6")
    assert "jpg, 16 x 24 pixels" in describe(photo, 0)
    assert Manifest.from_json(applied.manifest.to_json()) == applied.manifest


def test_the_other_setting_needs_a_rebuild_and_says_so(photographs, write_config, capsys):
    built(write_config(photographs))
    with pytest.raises(SystemExit):
        built(write_config(photographs, exif="apply"))
    assert 'exif "ignore" -> "apply"' in capsys.readouterr().err
    assert built(write_config(photographs, exif="apply"), "--rebuild").manifest.exif == "apply"


def test_an_unknown_value_names_the_choices(photographs, write_config, capsys):
    with pytest.raises(SystemExit):
        built(write_config(photographs, exif="rotate"))
    assert "exif is 'rotate'; choose one of: ignore, apply" in capsys.readouterr().err


def test_images_are_opened_in_one_module_only_so_no_way_to_the_pixels_can_differ():
    """Others would ignore `UprightImage`. Benchmarks that time Pillow itself, and the demo's base, may."""
    allowed = {"data_prep/images.py", "train/benchmarks/pixel_rates.py", "train/toy/base_vision.py"}
    found = set()
    for folder in ("configs", "data_prep", "train", "eval", "launch"):
        for file in (ROOT / folder).rglob("*.py"):
            if re.search(r"\bImage\.open\(|imdecode|decode_image\(|decode_jpeg\(", file.read_text()):
                found.add(file.relative_to(ROOT).as_posix())
    assert found <= allowed
