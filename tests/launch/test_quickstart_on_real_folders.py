"""Folders as people have them: one command runs each, or one sentence in the quickstart's own terms says why not."""

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

from configs.base_models import base_model_overrides
from configs.load import load_config
from configs.run import RunConfig
from data_prep import build
from launch import photo_survey, quickstart
from launch.photo_folder import Photos
from launch.run_name import name_of
from launch.small_folder import LEAST_STEPS, fit

ROOT = Path(__file__).resolve().parents[2]
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def photograph(file: Path) -> None:
    """A small image whose bytes no other file of the test has; its folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    number = int.from_bytes(sha256(str(file).encode()).digest()[:3], "big")
    Image.new("RGB", (8, 8), (number >> 16, number >> 8 & 255, number & 255)).save(file)


def fill(folder: Path, *classes: str, count: int = 10) -> Path:
    for name in classes:
        for number in range(count):
            photograph(folder / name / f"{number}.jpg")
    return folder


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were started; none is run. The machine has no GPU."""
    seen: list[list[str]] = []
    monkeypatch.setattr(quickstart, "count_gpus", lambda: 0)
    monkeypatch.setattr(quickstart, "run_steps", lambda steps, _: seen.extend(argv for step in steps for argv in step))
    return seen


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_main: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    started: list[list[str]],
) -> Callable[..., tuple[int, str, str]]:
    """Runs the quickstart in an own copy of the repository's root; returns exit code, output and errors."""
    here = tmp_path / "repository"
    (here / "train").mkdir(parents=True)
    (here / "train/finetune.py").touch()
    (here / "train/assets").symlink_to(ROOT / "train/assets")
    (here / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(here)

    def quickstart_main(*arguments: object) -> tuple[int, str, str]:
        code = run_main(quickstart.main, *map(str, arguments))
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return quickstart_main


Run = Callable[..., tuple[int, str, str]]


@pytest.mark.slow
def test_a_broken_photograph_is_left_out_and_listed_and_many_are_an_error(tmp_path: Path, run: Run) -> None:
    folder = fill(tmp_path / "photos", "cat", "dog")
    whole = (folder / "cat/0.jpg").read_bytes()
    (folder / "cat/broken.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "cat/clip.mov").write_bytes(bytes(100))
    code, out, _ = run(folder)
    assert code == 0
    assert "16 for training, 4 for the test" in out
    assert "left out    1 of 21 photographs and 1 other file" in out
    assert f"{folder}/cat/broken.jpg: does not decode" in out
    assert "Left out: 1 of 21 photographs and 1 other file" in out, "and again at the end"
    for number in range(4):
        (folder / f"dog/{number}.jpg").write_bytes(b"no image")
    code, out, err = run(folder, "--dry-run")
    assert code == 2
    assert "5 of 21 photographs cannot be read (24%; at most 10% are left out)" in err
    assert "--set data.max_drop_fraction=0.24" in err
    assert run(folder, "--dry-run", "--set", "data.max_drop_fraction=0.24")[0] == 0


@pytest.mark.slow
def test_a_changed_folder_is_built_again_until_it_was_trained_and_never_replaces_a_training(
    tmp_path: Path, run: Run, started: list[list[str]]
) -> None:
    folder = fill(tmp_path / "photos", "cat", "dog")
    assert run(folder)[0] == 0
    (folder / "cat/0.jpg").unlink()
    assert run(folder)[0] == 0
    assert all("--rebuild" in argv for argv in started if "data_prep.build" in argv)
    export = Path("runs/photos/export")
    export.mkdir(parents=True)
    (export / "weights").write_text("trained")
    started.clear()
    assert run(folder)[0] == 0, "the same photographs and settings continue"
    assert not any("--rebuild" in argv for argv in started)
    photograph(folder / "cat/new.jpg")
    code, _, err = run(folder, "--dry-run")
    assert code == 2
    assert "trained on other photographs of this folder (19 photographs in 2 classes, now 20 photographs" in err
    assert "--name photos-2" in err
    assert "--rebuild" in err
    assert "accept-change" not in err
    code, out, _ = run(folder, "--rebuild")
    assert code == 0
    assert "the earlier run is kept as runs/photos-1" in out
    assert Path("runs/photos-1/export/weights").read_text() == "trained"
    Path("runs/photos/metrics.jsonl").touch()  # interrupted: the training has begun and has no export
    code, out, _ = run(folder, "--rebuild")
    assert (code, "runs/photos is an unfinished training on these photographs, which continues" in out) == (0, True)
    assert not Path("runs/photos-2").exists()
    export.mkdir(parents=True)
    code, _, err = run(folder, "--set", "train.epochs=77")
    assert (code, "train.epochs 200 -> 77" in err, "--name photos-2" in err) == (2, True, True)


@pytest.mark.slow
def test_removed_shards_or_a_removed_run_do_not_make_a_folder_another_one(tmp_path: Path, run: Run) -> None:
    folder = fill(tmp_path / "photos", "cat", "dog")
    assert run(folder)[0] == 0
    Path("shards/photos/quickstart.json").unlink()
    assert run(folder)[0] == 0
    Path("runs/photos/quickstart.json").unlink()
    assert run(folder)[0] == 0
    Path("shards/photos/quickstart.json").unlink()
    Path("runs/photos/quickstart.json").unlink()
    Path("runs/photos/config.yaml").write_text("name: of something else")
    code, _, err = run(folder)
    assert code == 2
    assert "runs/photos: not made by a quickstart of this folder" in err
    assert "--name photos-2" in err


@pytest.mark.slow
def test_another_folder_of_the_same_name_is_refused_with_a_free_name_only(
    tmp_path: Path, run: Run, started: list[list[str]]
) -> None:
    first, second = (fill(tmp_path / where / "photos", "cat", "dog") for where in ("a", "b"))
    assert run(first)[0] == 0
    for arguments in ((second, "--dry-run"), (second, "--rebuild")):
        code, _, err = run(*arguments)
        assert code == 2
        assert f"shards/photos and runs/photos: of another folder, {first} (20 photographs in 2 classes)" in err
        assert "--name photos-2" in err
        assert "--rebuild" not in err
    assert run(second, "--name", "photos-2")[0] == 0
    copy = Path(shutil.copytree(first, tmp_path / "copies/photos"))
    assert run(copy)[0] == 2, "a copy is another folder, which may change"
    moved = first.rename(tmp_path / "moved")
    assert run(moved, "--name", "photos")[0] == 0, "the same photographs in another place are the same collection"
    assert f"data.sources.train.path={moved}" in started[-5]


@pytest.mark.slow
def test_in_a_large_folder_the_build_finds_what_does_not_decode_and_the_limit_holds_before_the_training(
    tmp_path: Path, run: Run, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path / "photos", "cat", "dog")
    for number in range(4):
        (folder / f"cat/{number}.jpg").write_bytes((folder / f"cat/{number}.jpg").read_bytes()[:300])
    monkeypatch.setattr(photo_survey, "THOROUGH", 5)

    def really_build(steps: list[list[list[str]]], _: str) -> None:
        started.extend(argv for step in steps for argv in step)
        if "data_prep.build" in steps[0][0]:
            build.main(steps[0][0][3:])

    monkeypatch.setattr(quickstart, "run_steps", really_build)
    code, out, err = run(folder)
    assert "only their first bytes were checked" in out
    assert (code, "4 of 20 photographs cannot be read (20%" in err) == (2, True)
    assert [argv[2] for argv in started] == ["data_prep.build"]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("fotos_käfer_möwen_2024", "fotos_kafer_mowen_2024"),
        ("Große Søren", "grosse_soren"),
        ("My Photos!", "my_photos"),
        ("写真", "photos-9c3250"),
        ("x" * 100, "x" * 53 + "-" + sha256(b"x" * 100).hexdigest()[:6]),
    ],
)
def test_a_folder_of_any_name_gives_an_ascii_name(folder: str, name: str) -> None:
    assert name_of(Path("/data") / folder) == name


def test_two_names_that_lose_letters_stay_two_names(tmp_path: Path, run: Run) -> None:
    assert len({name_of(Path(name)) for name in ("写真2024", "旅行2024", "2024")}) == 3
    folder = fill(tmp_path / "写真", "猫", "犬")
    code, out, _ = run(folder, "--dry-run")
    assert (code, "runs/photos-9c3250 (another name: --name NAME)" in out) == (0, True)
    code, _, err = run(folder, "--name", "写真")
    assert (code, "--name is '写真'" in err) == (2, True)


@pytest.mark.parametrize("samples", [2, 3, 15, 16, 17, 400, 100_000])
def test_batch_ranks_and_steps_fit_any_number_of_photographs(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    named = base_model_overrides("tiny")
    config = load_config(RunConfig, quickstart.CONFIG, named)[0]
    fitted = fit(config.train, samples, 2, "tiny", [])
    train = load_config(RunConfig, quickstart.CONFIG, [*named, *fitted.settings])[0].train
    steps = samples // train.global_batch * train.epochs
    assert train.global_batch % fitted.ranks == 0
    assert steps >= LEAST_STEPS
    assert train.epochs == 8 or steps < LEAST_STEPS + samples // train.global_batch
    assert fit(config.train, samples, 2, "tiny", ["train.epochs=1", "train.global_batch=16"]).settings == ()
    assert fit(config.train, 100, 3, "llava-1.5-7b", []).ranks in (1, 2)


def test_two_photographs_a_class_run_and_say_that_they_are_few(tmp_path: Path, run: Run) -> None:
    code, out, _ = run(fill(tmp_path / "photos", "cat", "dog", count=2))
    assert code == 0
    assert "batches of 2 in place of 16" in out
    assert "a class has 1 training photograph; with fewer than 10 the result means little" in out
    assert "cost        training takes about" in out


@pytest.mark.slow
def test_all_classes_of_one_photograph_are_named_at_once(tmp_path: Path, run: Run) -> None:
    folder = fill(fill(tmp_path / "photos", "cat", "dog"), "bird", "fish", count=1)
    code, _, err = run(folder, "--dry-run")
    assert code == 2
    assert "2 classes with one photograph in" in err
    assert "(bird, fish): each class needs two" in err


def test_photographs_that_are_all_in_an_unread_format_are_named_with_the_way_to_convert_them(
    tmp_path: Path, run: Run
) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "phone" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "phone" / name / f"IMG_{number}.HEIC").write_bytes(HEIC)
        (tmp_path / "empty" / name).mkdir(parents=True)
    code, _, err = run(tmp_path / "phone", "--dry-run")
    assert code == 2
    assert "no readable photographs in" in err
    assert "6 files .heic (format not read); convert them to JPEG" in err
    assert "data." not in err
    code, _, err = run(tmp_path / "empty")
    assert (code, "its folders are empty" in err) == (2, True)


def test_a_class_spelled_differently_in_train_and_test_is_refused(tmp_path: Path, run: Run) -> None:
    fill(tmp_path / "photos/train", "cats", "dogs")
    fill(tmp_path / "photos/test", "Cats", "dogs")
    code, _, err = run(tmp_path / "photos", "--dry-run")
    assert code == 2
    assert "test/Cats and" in err
    assert "rename one of the folders" in err


def test_a_wrong_path_is_answered_with_the_right_one(tmp_path: Path, run: Run) -> None:
    photos = fill(tmp_path / "Holiday Photos", "cat", "dog")
    fill(tmp_path / "years/2024", "cat", "dog")
    for arguments, said in (
        ((tmp_path / "Holiday Photo",), f'did you mean "{photos}"?'),
        ((tmp_path / "Holiday", "Photos"), f'is written in quotes: "{photos}"'),
        ((tmp_path / "nowhere/deep",), f"({tmp_path} has no nowhere)"),
        ((tmp_path / "years",), f'with the folders cat, dog; if those are the classes, give "{tmp_path}/years/2024"'),
        ((photos, "twice"), "not understood: twice"),
        ((photos / "cat/0.jpg",), "is a file"),
        ((fill(tmp_path / "a ${x}", "cat", "dog"),), "has ${, which settings read as a reference; rename the folder"),
    ):
        code, _, err = run(*arguments)
        assert code == 2
        assert said in err
        assert err.count("\n") == 1


def test_one_part_alone_is_divided(tmp_path: Path) -> None:
    only = fill(tmp_path / "testonly/train", "cat", "dog")
    assert Photos.of(tmp_path / "testonly") == Photos(only, only, divided=True)


@pytest.mark.slow
def test_it_runs_from_any_folder_and_writes_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    fill(tmp_path / "photos", "cat", "dog")
    monkeypatch.setattr(quickstart, "ROOT", Path.cwd())
    Path("pyproject.toml").touch()
    root = Path.cwd()
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("photos", "--dry-run")
    assert (code, f"in          {root}" in out, f"path={tmp_path}/photos" in out) == (0, True, True)
    (root / "pyproject.toml").unlink()
    monkeypatch.chdir(tmp_path)
    code, _, err = run("photos")
    assert (code, "the folder that has configs/ and train/: cd to it first" in err) == (2, True)


@pytest.mark.slow
def test_a_result_at_chance_says_what_to_try_and_prints_the_command_for_one_photograph(
    tmp_path: Path, run: Run
) -> None:
    folder = fill(tmp_path / "photos", "cat", "dog")
    report = Path("runs/photos/eval/image_folder_open_world/export/report.json")
    report.parent.mkdir(parents=True)
    report.write_text('{"accuracy": {"value": 0.25}}')
    code, out, _ = run(folder, "--name", "mine")
    assert (code, "always answering" in out) == (0, False)
    report.parents[2].rename("runs/mine/eval")
    code, out, _ = run(folder, "--name", "mine")
    assert code == 0
    assert "Accuracy 25.0% of 4 test photographs; always answering cat: 50.0%" in out
    assert "--set train.epochs=600" in out
    image = out.partition("--image ")[2].split()[0]
    assert Path(image).parent.parent == folder
    assert f"--model runs/mine --image {image} --prompt 'What type of object is in this photo?'" in out
    assert "--classes shards/mine/train" in out


def test_classes_whose_names_the_base_cannot_write_get_names_that_it_can(
    tmp_path: Path, run: Run, started: list[list[str]]
) -> None:
    folder = fill(tmp_path / "photos", "Käfer", "cat", "cat & dog", "日本")
    code, out, _ = run(folder)
    assert code == 0
    assert "classes     4: Kafer, cat, cat dog, class 4" in out
    assert "class 'Käfer' is called 'Kafer': the base model cannot write its name" in out
    renames = json.dumps({"Käfer": "Kafer", "cat & dog": "cat dog", "日本": "class 4"}, ensure_ascii=False)
    for part in ("train", "test"):
        assert f"data.sources.{part}.options.rename={renames}" in started[0]
    assert "--base llava-1.5-7b" not in out.partition("writes ")[0], "nothing is left that it cannot write"
    with_gpu_base = run(folder, "--base", str(tmp_path), "--dry-run", "--name", "other")
    assert "is called" not in with_gpu_base[1]


def test_a_class_whose_plain_name_another_class_has_keeps_its_own_and_a_warning(tmp_path: Path, run: Run) -> None:
    folder = fill(tmp_path / "photos", "Käfer", "kafer", "dog")
    code, out, _ = run(folder, "--dry-run")
    assert code == 0
    assert "is called" not in out
    assert "warning     the base cannot write 1 of 3 folder names (Käfer becomes <unk>)" in out
    assert "or take --base llava-1.5-7b" in out
    assert run(folder)[0] == 0
    report = Path("runs/photos/eval/image_folder_open_world/export/report.json")
    report.parent.mkdir(parents=True)
    report.write_text('{"accuracy": {"value": 0.0}}')
    assert "other folder names: the base cannot write 1 of 3" in run(folder)[1]
