"""The quickstart is a row of commands that one could type, chosen by what the folder and the machine have."""

import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

from configs.base_models import base_model_names, base_model_overrides
from configs.errors import ConfigError
from configs.load import load_config
from configs.run import RunConfig
from launch import commands, quickstart
from launch.command_table import arguments_after, find
from launch.photo_folder import Photos
from launch.photo_survey import survey
from launch.quickstart import plan_of
from launch.run_name import name_of
from launch.steps import run_step, run_steps, typed

ROOT = Path(__file__).resolve().parents[2]


def photograph(file: Path) -> None:
    """A small image whose bytes no other file of the test has; its folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    number = int.from_bytes(sha256(str(file).encode()).digest()[:3], "big")
    Image.new("RGB", (8, 8), (number >> 16, number >> 8 & 255, number & 255)).save(file)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of five photographs; the machine has no GPU."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(quickstart, "count_gpus", lambda: 0)
    for name in ("cat", "dog"):
        (tmp_path / "My Photos" / name).mkdir(parents=True)
        for copy in range(5):
            photograph(tmp_path / "My Photos" / name / f"{copy}.jpg")
    return tmp_path / "My Photos"


def lines_of(plan: quickstart.Quickstart) -> list[str]:
    return [typed(argv) for step in plan.steps() for argv in step]


def test_one_folder_is_divided_built_trained_evaluated_and_compared_with_the_base(photos: Path) -> None:
    build, train, evaluate, base, compare = lines_of(plan_of(photos, None, None, ()))
    for command in (build, train):
        assert "--config configs/image_folder.yaml" in command
        assert "--base tiny" in command
        assert f"data.sources.train.path={photos}" in command
        assert "data.sources.test.options.part=test" in command
    assert "--resume auto" in train
    assert evaluate.endswith("--set model=runs/my_photos")
    assert "--set model=train/assets/tiny_llava --set data_from=runs/my_photos" in base
    assert compare.endswith("base=runs/my_photos/comparison/base fine-tuned=runs/my_photos/eval")


@pytest.mark.parametrize("name", ["2024: Photos #1", "2023_05", "2023-05-01", "no", "[old] photos", "it's ours"])
def test_a_folder_may_have_any_name(photos: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    photos.rename(photos.parent / name)
    monkeypatch.setattr(quickstart, "CONFIG", ROOT / quickstart.CONFIG)
    monkeypatch.chdir(photos.parent)
    plan = plan_of(Path(name), str(ROOT / "train/assets/tiny_llava"), None, ())
    assert plan.config.data.sources["train"].path == name
    assert plan.config.name == name_of(Path(name))


def test_a_folder_with_a_test_part_is_used_as_it_is(photos: Path) -> None:
    for part in ("train", "val"):
        (photos / part).mkdir()
        (photos / part / "cat").mkdir()
    plan = plan_of(photos, None, "mine", ())
    assert (plan.photos.train, plan.photos.test) == (photos / "train", photos / "val")
    assert "options.part" not in lines_of(plan)[0]
    assert "runs/mine" in lines_of(plan)[2]


def test_a_machine_with_gpus_trains_the_papers_model_on_all_of_them(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quickstart, "count_gpus", lambda: 4)
    plan = plan_of(photos, None, None, ("train.epochs=2",))
    train = lines_of(plan)[1]
    assert "--num_gpus 4" in train
    assert "--base llava-1.5-7b" in train
    assert "--set train.epochs=2" in train
    said = quickstart.describe(plan, survey(plan.photos, plan.config.data), [])
    assert "8 for training, 2 for the test" in said
    assert "download of 13.2 GiB" in said


def test_a_training_next_to_another_one_meets_at_a_port_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []

    class Ended:
        def __init__(self, argv: list[str]) -> None:
            started.append(argv)

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(subprocess, "Popen", Ended)
    for _ in range(2):
        run_step([commands.finetune_local("deepspeed", Path("a.yaml"))], "quickstart")
    ports = [argv[argv.index("--master_port") + 1] for argv in started]
    assert "29500" not in ports
    printed = capsys.readouterr().out
    assert all(f"--master_port {port} " in printed for port in ports)


def test_ctrl_c_waits_for_the_command_and_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits = iter([KeyboardInterrupt, None])

    class Interrupted:
        def __init__(self, _: list[str]) -> None: ...

        def wait(self) -> int:
            if error := next(waits):
                raise error
            return 0

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(SystemExit) as left:
        run_steps([[["python", "-m", "eval.run"]], [["python", "never"]]], "quickstart")
    assert left.value.code == 130
    assert next(waits, "waited") == "waited"
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "interrupted: waiting for the command to save and end",
        "",
        "the quickstart was interrupted; the same command continues",
    ]
    assert "never" not in said.out


def test_the_commands_are_printed_and_nothing_is_started_by_a_dry_run(
    photos: Path, run_main: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a program was started"))
    assert run_main(quickstart.main, str(photos), "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "classes     2: cat, dog" in printed
    assert printed.count("\npython -m ") == 4
    assert not (ROOT / "runs/my_photos").exists()


def test_the_plan_names_what_is_not_read_empty_classes_and_a_folder_too_high(
    photos: Path, tmp_path: Path, run_main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "bird").mkdir()
    (photos / "cat" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert run_main(quickstart.main, str(photos), "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "left out    1 of 11 photographs" in printed
    assert f"left out      {photos}/cat/IMG_1.HEIC: format not read: HEIC; convert it to JPEG or PNG" in printed
    assert "warning     no photographs for the training in bird" in printed
    (tmp_path / "Others").mkdir()
    for name in ("fish", "frog"):
        (tmp_path / "Others" / name).mkdir()
        for copy in range(3):
            photograph(tmp_path / "Others" / name / f"{copy}.jpg")
    assert run_main(quickstart.main, str(tmp_path), "--dry-run") == 0
    assert f"if those are the classes, the path is {tmp_path / 'My Photos'}" in capsys.readouterr().out


def test_parts_are_found_in_any_case_and_one_alone_is_divided(photos: Path, tmp_path: Path) -> None:
    photos.rename(tmp_path / "Training")
    assert plan_of(tmp_path, None, None, ()).photos == Photos(
        tmp_path / "Training", tmp_path / "Training", divided=True
    )
    (tmp_path / "Test").mkdir()
    assert plan_of(tmp_path, None, None, ()).photos == Photos(tmp_path / "Training", tmp_path / "Test", divided=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "no folder nowhere"),
        (["{photos}/cat"], "has photographs but no sub-folders"),
        (["{photos}", "--base", "huge"], "--base is 'huge'; choose one of llava-1.5-13b, llava-1.5-7b, tiny"),
        (["{photos}", "--set", "train.epoch=1"], "train.epoch"),
    ],
)
def test_a_mistake_is_one_line_before_anything_starts(
    photos: Path, arguments: list[str], said: str, run_main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(quickstart.main, *(text.format(photos=photos) for text in arguments)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_one_class_alone_is_refused(
    photos: Path, run_main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (photos / "dog").iterdir():
        file.unlink()
    (photos / "dog").rmdir()
    assert run_main(quickstart.main, str(photos)) == 2
    assert "has one class, cat" in capsys.readouterr().err


def test_the_short_name_is_one_word() -> None:
    words = ["quickstart", "my photos", "--dry-run"]
    command = find(words)
    assert command is not None
    assert command.module == "launch.quickstart"
    assert arguments_after(command, words) == ["my photos", "--dry-run"]
    assert arguments_after(command, ["launch", *words]) == ["my photos", "--dry-run"]


@pytest.mark.parametrize("name", base_model_names())
def test_every_named_base_model_fits_the_preset_for_own_images(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config, _ = load_config(RunConfig, Path("configs/image_folder.yaml"), base_model_overrides(name))
    assert config.model.base in (
        "train/assets/tiny_llava",
        "llava-hf/llava-1.5-7b-hf",
        "llava-hf/llava-1.5-13b-hf",
    )


def test_a_folder_or_a_hub_id_is_a_base_model_too(tmp_path: Path) -> None:
    assert base_model_overrides(str(tmp_path)) == [f'model.base="{tmp_path}"']
    assert base_model_overrides("owner/name") == ['model.base="owner/name"']
    with pytest.raises(ConfigError, match="choose one of"):
        base_model_overrides("tinyy")
