"""ImageNet as a tar of tars and as the flat validation folder."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from configs.errors import DataError
from data_prep import build
from data_prep.class_names import load_class_list
from data_prep.readers import image_folder, imagenet, imagenet_flat
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


HUB = {"n01440764": (18, 10026), "n01443537": (5,)}  # as the hub packs it: n01440764_18_n01440764.JPEG


@pytest.fixture
def class_tree(tmp_path, picture) -> Path:
    """Three images of two classes in class folders."""
    for wnid, numbers in HUB.items():
        (tmp_path / "tree" / wnid).mkdir(parents=True)
        for number in numbers:
            (tmp_path / "tree" / wnid / f"{wnid}_{number}.JPEG").write_bytes(picture(number))
    return tmp_path / "tree"


def built(write_config, path: Path, reader: str, shards: Path, options: str = "{}") -> ShardSet:
    build.main(["--config", str(write_config(path, reader, options, shards=shards))])
    return ShardSet.open(shards / "pets")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".JPEG", ".jpg", ""])
@pytest.mark.parametrize("folders", [("",), ("train_images_0", "train_images_1")], ids=["flat", "parts"])
def test_flat_files_of_the_hub_give_the_shards_of_class_folders(class_tree, write_config, tmp_path, suffix, folders):
    usual = built(write_config, class_tree, "image_folder", tmp_path / "a", "{class_names: imagenet}")
    flat = tmp_path / "flat"
    for number, file in enumerate(sorted(class_tree.glob("*/*"))):
        folder = flat / folders[number % len(folders)]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{file.stem}_{file.parent.name}{suffix}").write_bytes(file.read_bytes())
        (folder / f"._{file.name}").write_bytes(b"\0\5\x16\7")
    (flat / "README.md").write_text("as on the hub")
    shards = built(write_config, flat, "imagenet_flat", tmp_path / "b")
    assert shards.manifest.drops == ()
    assert shards.fingerprint == usual.fingerprint
    if suffix:
        with pytest.raises(DataError, match=r"has no class folders; .*are read by the reader imagenet_flat"):
            image_folder.read(flat / folders[0])


def test_flat_names_that_hold_two_classes_or_none_are_drops(tmp_path, picture):
    for name in ("n01440764_1_n01443537.JPEG", "n01440764_2_n01440764.JPEG", "n99999999_3_n99999999.JPEG", "me.jpg"):
        (tmp_path / name).write_bytes(picture())
    records = {record.id: getattr(record, "reason", record) for record in imagenet_flat.read(tmp_path).records}
    assert records["n01440764/n01440764_1"] == "unknown class: its name holds two WordNet ids"
    assert records["n01440764/n01440764_2"].label_name == "tench"
    assert records["n99999999/n99999999_3"] == "unknown class: n99999999 is none of ImageNet-1k's"
    assert records["me.jpg"] == "no class: its name holds no WordNet id"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image whose name holds a class"):
        imagenet_flat.read(tmp_path / "empty")


@pytest.mark.parametrize("suffix", [".JPEG", ".jpg", ".jpeg", ""])
def test_validation_names_with_the_class_need_no_ground_truth_and_keep_the_usual_ids(tmp_path, picture, suffix):
    val = tmp_path / "val"
    val.mkdir()
    for number, wnid in ((1, "n01751748"), (2, "n09193705")):
        (val / f"ILSVRC2012_val_{number:08d}_{wnid}{suffix}").write_bytes(picture(number))
    expected = [("ILSVRC2012_val_00000001", 65), ("ILSVRC2012_val_00000002", 970)]
    source = imagenet.read_validation(val)
    assert [(record.id, record.label) for record in source.records] == expected
    assert [record.image.read_bytes() for record in source.records] == [picture(1), picture(2)]
    assert [(record.id, record.label) for record in imagenet_flat.read(val).records] == expected
    truth = tmp_path / "val.txt"
    truth.write_text("ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002_n09193705.JPEG 970\n")
    source = imagenet.read_validation(val, ground_truth=str(truth))
    assert [(record.id, record.label) for record in source.records] == expected
    truth.write_text("ILSVRC2012_val_00000001.JPEG 970\nILSVRC2012_val_00000002.JPEG 65\n")
    with pytest.raises(
        DataError, match="gives ILSVRC2012_val_00000001 the class n09193705 and its name says n01751748"
    ):
        imagenet.read_validation(val, ground_truth=str(truth))


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG", ""])
def test_validation_images_with_another_suffix_than_in_the_ground_truth_are_found(tmp_path, picture, suffix):
    val = tmp_path / "val"
    val.mkdir()
    (val / f"ILSVRC2012_val_00000001{suffix}").write_bytes(picture())
    (val / "._ILSVRC2012_val_00000001.jpg").write_bytes(b"\0\5\x16\7")
    (val / "notes.doc").write_bytes(b"words")
    (tmp_path / "val.txt").write_text("ILSVRC2012_val_00000001.JPEG 65\n")
    source = imagenet.read_validation(val, ground_truth=str(tmp_path / "val.txt"))
    (record,) = source.records
    assert (record.label, record.image.read_bytes()) == (65, picture())
    assert source.ignored == ("._ILSVRC2012_val_00000001.jpg", "notes.doc")


def test_validation_without_a_ground_truth_or_one_level_too_high_says_what_to_do(tmp_path, picture):
    (tmp_path / "val/n01440764").mkdir(parents=True)
    with pytest.raises(DataError, match="holds class folders; read them with image_folder"):
        imagenet.read_validation(tmp_path / "val")
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat/ILSVRC2012_val_00000001.JPEG").write_bytes(picture())
    with pytest.raises(DataError, match="no image whose name holds its class"):
        imagenet.read_validation(tmp_path / "flat")
    for name in ("ILSVRC2012_val_00000001_n01751748.jpg",):
        (tmp_path / "flat" / name).write_bytes(picture())
    with pytest.raises(DataError, match="has the image ILSVRC2012_val_00000001 twice"):
        imagenet.read_validation(tmp_path / "flat")


def add(tar: tarfile.TarFile, name: str, data: bytes | None) -> None:
    info = tarfile.TarInfo(name)
    if data is None:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    else:
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))


def packed(members: dict[str, bytes | None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            add(tar, name, data)
    return buffer.getvalue()


APPLE = b"\0\5\x16\7" + bytes(60)


def repacked(tree: Path, form: str) -> dict[str, bytes]:
    """The files that a re-packed ImageNet consists of."""
    images = {f"{file.parent.name}/{file.name}": file.read_bytes() for file in sorted(tree.glob("*/*"))}
    by_class: dict[str, dict[str, bytes | None]] = {}
    for name, data in images.items():
        by_class.setdefault(name[:9], {})[name] = data
    if form == "tar of tars on a Mac":
        inner = {
            wnid: packed({wnid: None} | {f"{wnid}/._{n.partition('/')[2]}": APPLE for n in members} | members)
            for wnid, members in by_class.items()
        }
        outer: dict[str, bytes | None] = {"./": None, "./._n01440764.tar": APPLE, "./.DS_Store": b"x"}
        return {"train.tar": packed(outer | {f"./{wnid}.tar": data for wnid, data in inner.items()})}
    if form == "tar of class folders":
        return {"train.tar": packed({"train": None} | {f"train/{n}": data for n, data in images.items()})}
    if form == "tars of the hub":
        hub = {f"{n.partition('/')[2].removesuffix('.JPEG')}_{n[:9]}.JPEG": data for n, data in images.items()}
        names = list(hub)
        return {"0.tar": packed({n: hub[n] for n in names[:1]}), "1.tar": packed({n: hub[n] for n in names[1:]})}
    return {f"{wnid}.tar": packed({n.partition("/")[2]: d for n, d in ms.items()}) for wnid, ms in by_class.items()}


@pytest.mark.slow
@pytest.mark.parametrize("copy", [True, False], ids=["copied", "in place"])
@pytest.mark.parametrize("form", ["tar of tars on a Mac", "tar of class folders", "tars of the hub", "a tar a class"])
def test_repacked_tars_give_the_images_of_class_folders(class_tree, write_config, tmp_path, form, copy):
    usual = built(write_config, class_tree, "image_folder", tmp_path / "a", "{class_names: imagenet}")
    folder = tmp_path / "tars"
    folder.mkdir()
    for name, data in repacked(class_tree, form).items():
        (folder / name).write_bytes(data)
    path = folder / "train.tar" if (folder / "train.tar").exists() else folder
    shards = built(write_config, path, "imagenet_train_tar", tmp_path / "b", f"{{copy: {str(copy).lower()}}}")
    assert shards.manifest.drops == ()
    assert [shards.sample(n) for n in range(3)] == [usual.sample(n) for n in range(3)]


def test_tars_that_are_not_imagenets_or_packed_are_named(tmp_path, class_tree):
    (tmp_path / "other.tar").write_bytes(packed({"cats/1.jpg": b"x"}))
    with pytest.raises(DataError, match=r"member 'cats/1\.jpg' is not the tar of an ImageNet class"):
        imagenet.read_train_tar(tmp_path / "other.tar")
    (tmp_path / "t.tar").write_bytes(gzip.compress(next(iter(repacked(class_tree, "tar of class folders").values()))))
    with pytest.raises(DataError, match="packed with gzip: unpack it with gunzip"):
        imagenet.read_train_tar(tmp_path / "t.tar")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub/train_images_0.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match=r"has no \.tar; unpack train_images_0\.tar\.gz with gunzip"):
        imagenet.read_train_tar(tmp_path / "hub")
