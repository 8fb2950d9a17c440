"""ImageNet as a tar of tars and as the flat validation folder."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from configs.errors import DataError
from data_prep import build
from data_prep.class_names import load_class_list
from data_prep.readers import imagenet
from data_prep.sample import Drop
from data_prep.shards import ShardSet
from data_prep.validate import validate_record

savemat = pytest.importorskip("scipy.io").savemat


@pytest.fixture
def imagenet_sample(shared_data, tmp_path) -> Path:
    with tarfile.open(shared_data / "imagenet_sample.tar") as tar:
        members = [m for m in tar if m.name.split("/")[2] < "n01641577"]
        tar.extractall(tmp_path, members, filter="data")
    return tmp_path / "imagenet/train"


def tar_of_tars(folder: Path, file: Path) -> Path:
    with tarfile.open(file, "w") as outer:
        for class_folder in sorted(folder.iterdir(), reverse=True):  # the order in the tar must not matter
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as inner:
                for image in sorted(class_folder.iterdir()):
                    inner.add(image, image.name)
            info = tarfile.TarInfo(f"{class_folder.name}.tar")
            info.size = buffer.tell()
            buffer.seek(0)
            outer.addfile(info, buffer)
    return file


def test_the_tar_of_tars_gives_the_same_shards_as_the_unpacked_folders(imagenet_sample, write_config, tmp_path):
    tar = tar_of_tars(imagenet_sample, tmp_path / "ILSVRC2012_img_train.tar")
    build.main(["--config", str(write_config(imagenet_sample, options="{class_names: imagenet}"))])
    build.main(["--config", str(write_config(tar, "imagenet_train_tar", shards=tmp_path / "tarred"))])
    folders, tarred = (ShardSet.open(tmp_path / name / "pets") for name in ("shards", "tarred"))
    assert len(folders) > 4
    assert tarred.fingerprint == folders.fingerprint


def test_half_a_download_of_the_tar_of_tars_is_an_error(imagenet_sample, tmp_path):
    tar = tar_of_tars(imagenet_sample, tmp_path / "train.tar")
    tar.write_bytes(tar.read_bytes()[: tar.stat().st_size // 2])
    with pytest.raises(DataError, match="is the download complete"):
        [record.image() for record in imagenet.read_train_tar(tar).records]


@pytest.fixture
def small_tar_of_tars(tmp_path, picture) -> Path:
    """Three classes of three pictures each; every inner tar has 10,240 bytes, its members 1,024 each."""
    for wnid in ("n01440764", "n01443537", "n01484850"):
        (tmp_path / "train" / wnid).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "train" / wnid / f"{wnid}_{number}.JPEG").write_bytes(picture(number, (8, 8), "L"))
    tar = tar_of_tars(tmp_path / "train", tmp_path / "train.tar")
    assert len(list(imagenet.read_train_tar(tar).records)) == 9
    return tar


def cut(at: int):
    return lambda data: data[:at]


def flipped(at: int):
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def zeroed(at: int):
    return lambda data: data[:at] + bytes(512) + data[at + 512 :]


SECOND = 512 + 10_240  # where the header of the second class's tar begins


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(cut(SECOND), id="cut between two classes"),
        pytest.param(cut(SECOND + 100), id="cut in the header of a class"),
        pytest.param(cut(SECOND + 3000), id="cut in the tar of a class"),
        pytest.param(flipped(SECOND + 2), id="a bit of a class's header"),
        pytest.param(zeroed(SECOND), id="the header of a class zeroed"),
        pytest.param(flipped(SECOND + 512 + 1024 + 2), id="a bit of an image's header"),
        pytest.param(zeroed(SECOND + 512 + 1024), id="the header of an image zeroed"),
    ],
)
def test_a_damaged_tar_of_tars_is_an_error_and_never_fewer_images(damage, small_tar_of_tars):
    small_tar_of_tars.write_bytes(damage(small_tar_of_tars.read_bytes()))
    with pytest.raises(DataError, match=r"train\.tar.* (is damaged|is cut short|is not a tar of tars)"):
        imagenet.read_train_tar(small_tar_of_tars)


def test_validation_labels_come_from_any_of_three_ground_truths(tmp_path):
    (tmp_path / "truth.txt").write_text("490\n361\n")
    (tmp_path / "caffe.txt").write_text("ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 970\n")
    (tmp_path / "kaggle.csv").write_text(
        "ImageId,PredictionString\n"
        "ILSVRC2012_val_00000002,n09193705 1 2 3 4 \n"
        "ILSVRC2012_val_00000001,n01751748 1 2 3 4 \n"
    )
    kinds = [("ILSVRC2012_ID", object), ("WNID", object)]
    savemat(tmp_path / "meta.mat", {"synsets": np.array([(490, "n01751748"), (361, "n09193705")], dtype=kinds)})
    read = {
        truth: [
            (record.id, record.label, record.label_name)
            for record in imagenet.read_validation(tmp_path, ground_truth=str(tmp_path / truth), **options).records
        ]
        for truth, options in (
            ("truth.txt", {"synsets": str(tmp_path / "meta.mat")}),
            ("caffe.txt", {}),
            ("kaggle.csv", {}),
        )
    }
    expected = [("ILSVRC2012_val_00000001", 65, "sea snake"), ("ILSVRC2012_val_00000002", 970, "mountain")]
    assert read == dict.fromkeys(read, expected)


def test_a_flat_validation_folder_builds_with_the_labels_of_its_ground_truth(imagenet_sample, write_config, tmp_path):
    flat, labels = tmp_path / "val", []
    flat.mkdir()
    keys = load_class_list("imagenet").by_key
    for number, image in enumerate(sorted(imagenet_sample.glob("*/*.JPEG"), reverse=True), start=1):
        image.rename(flat / f"ILSVRC2012_val_{number:08d}.JPEG")
        labels.append(keys[image.parent.name])
    names = sorted(file.name for file in flat.iterdir())
    truth = tmp_path / "val.txt"
    truth.write_text("".join(f"{name} {label}\n" for name, label in zip(names, labels, strict=True)))
    build.main(["--config", str(write_config(flat, "imagenet_validation", f"{{ground_truth: {truth}}}"))])
    assert ShardSet.open(tmp_path / "shards/pets").labels.tolist() == labels


def test_images_and_ground_truths_that_do_not_match_are_named_drops(tmp_path, picture):
    for number in (1, 3):
        (tmp_path / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(picture(number))
    (tmp_path / "truth.txt").write_text("ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 970\n")
    records = list(imagenet.read_validation(tmp_path, ground_truth=str(tmp_path / "truth.txt")).records)
    found = [validate_record(record, "val", 1000, decode=True) for record in records]
    assert [(f.id, f.reason.partition(":")[0]) if isinstance(f, Drop) else f.label for f in found] == [
        65,
        ("ILSVRC2012_val_00000002", "missing file"),
        ("ILSVRC2012_val_00000003", "no ground truth"),
    ]


@pytest.mark.parametrize(
    "truth, message",
    [
        ("a.JPEG 65\nb.JPEG 1000\n", "gives b the label 1000; labels are 0 to 999, not from 1"),
        ("a.JPEG 65\nb.JPEG -1\n", "gives b the label -1"),
        ("a.JPEG 65\na.JPEG 66\n", "names the image a twice"),
        ("\n", "is empty"),
    ],
)
def test_a_ground_truth_of_something_else_is_refused(truth, message, tmp_path):
    (tmp_path / "truth.txt").write_text(truth)
    with pytest.raises(DataError, match=message):
        imagenet.read_validation(tmp_path, ground_truth=str(tmp_path / "truth.txt"))


def test_devkit_numbers_without_the_synsets_are_refused(tmp_path):
    (tmp_path / "truth.txt").write_text("490\n361\n")
    with pytest.raises(DataError, match=r"not in the order of wnids; set synsets to meta\.mat"):
        imagenet.read_validation(tmp_path, ground_truth=str(tmp_path / "truth.txt"))
