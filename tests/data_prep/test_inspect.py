import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from configs.errors import DataError
from data_prep import build, inspect
from data_prep.class_names import load_class_list
from data_prep.contact_sheet import CAPTION, COLUMNS, TILE, contact_sheet, shortened
from data_prep.images import decode_rgb


def run(*arguments) -> None:
    inspect.main([str(argument) for argument in arguments])


def test_totals_samples_and_histogram_are_printed(built, capsys):
    run(built.folder, "--number", 7)
    out = capsys.readouterr().out
    assert "pets: 12 samples of 12 records in 3 shards" in out
    assert "[7] pets/wild_dog/1\n    image: jpg, 24 x 16 pixels" in out
    assert (
        "    label: 1 wild dog\n    human: '<image>\\nWhat type of object is in this photo?'\n    gpt: 'wild dog'"
        in out
    )
    assert "2 classes, 0 of them without a sample" in out
    assert f"    1 wild dog                              6 {'#' * 40}" in out


def test_samples_are_chosen_by_seed_and_label(built):
    assert inspect.choose(built, 3, 0, None, None) == inspect.choose(built, 3, 0, None, None)
    assert len({tuple(inspect.choose(built, 3, seed, None, None)) for seed in range(9)}) > 1
    assert inspect.choose(built, 99, 0, 1, None) == [6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize(
    ("option", "message"), [(("--label", 5), "no sample of class 5"), (("--number", 12), "0 to 11")]
)
def test_a_sample_that_does_not_exist_is_a_user_error(built, capsys, option, message):
    with pytest.raises(SystemExit) as stop:
        run(built.folder, *option)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_folder_of_several_shard_sets_is_not_said_to_be_missing(built, capsys, tmp_path):
    for name in ("train", "test"):
        shutil.copytree(built.folder, tmp_path / "sets" / name)
    with pytest.raises(SystemExit):
        run(tmp_path / "sets")
    sets = f"give {tmp_path}/sets/test or {tmp_path}/sets/train"
    assert f"{tmp_path}/sets is no shard set, but a folder of 2: {sets}" in capsys.readouterr().err
    with pytest.raises(DataError, match=f"this folder is no shard set; {sets}"):
        load_class_list(str(tmp_path / "sets"))
    with pytest.raises(DataError, match="give a file, or the folder of a shard set"):
        load_class_list(str(tmp_path))
    assert load_class_list(str(tmp_path / "sets" / "test")).names == built.manifest.class_names


def test_a_contact_sheet_shows_each_image_in_a_separate_tile(built, tmp_path):
    run(built.folder, "--samples", 8, "--sheet", tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (2 * (TILE + CAPTION), COLUMNS * TILE, 3)
    first = decode_rgb(built.sample(inspect.choose(built, 8, 0, None, None)[0]).image)
    middle = sheet[TILE // 2, TILE // 2].astype(int)
    assert abs(middle - np.asarray(first.resize((176, 117)))[58, 88].astype(int)).max() < 40


def test_below_each_tile_are_number_id_and_label(built, monkeypatch):
    drawn: list[str] = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, place, text, **how: drawn.append(text))
    contact_sheet({7: built.sample(7), 3: dataclasses.replace(built.sample(3), image=b"damaged", label_name=None)})
    assert drawn[:4] == ["", "[7]", "pets/wild_dog/1", "1 wild dog"]
    assert drawn[4:6] == ["image does not decode", "[3]"]
    assert drawn[7] == "cat"


def test_a_long_id_keeps_both_ends():
    font = ImageFont.load_default(12)
    text = shortened("imagenet/train/" + "n01440764/" * 9 + "n01440764_18.JPEG", 172, font)
    assert text.startswith("imagenet/")
    assert text.endswith("_18.JPEG")
    assert font.getlength(text) <= 172


def test_drops_are_listed_by_reason(class_folders, write_config, tmp_path, capsys):
    (class_folders / "cat" / "1.jpg").write_bytes(b"")
    build.main(["--config", str(write_config(class_folders, max_drop_fraction=0.5))])
    run(tmp_path / "shards/pets")
    assert "dropped: 1 x empty file" in capsys.readouterr().out


def test_many_classes_are_cut_in_the_middle(built):
    names = tuple(f"class {number}" for number in range(30))
    manifest = dataclasses.replace(built.manifest, class_names=names, histogram=tuple(range(30)))
    text = inspect.histogram(manifest, 2)
    assert [line.split()[0] for line in text.splitlines()[2:]] == ["29", "28", "...", "1", "0"]
    assert "30 classes, 1 of them without a sample" in text
