"""Between two sources classes are matched by name: for probes, class lists, and answers that are compared."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.run_dir import RunDir
from data_prep import build
from eval import paired, probing, run
from eval.metrics.accuracy import ClassResult
from eval.metrics.seeds import pooled_classes
from eval.runner.training_data import training_notes

COLOURS = {
    "blue": (20, 40, 220),
    "green": (30, 200, 40),
    "red": (220, 30, 30),
    "white": (240, 240, 240),
    "black": (10, 10, 10),
}
TRAIN = ("blue", "green", "red", "white")
FOLDERS = {
    "train": {name: name for name in TRAIN},
    "subset": {"green": "green", "white": "white"},
    "other": {"black": "black", "green": "green", "white": "white"},
    "capitals": {"Blue": "blue", "Green": "green"},
    "foreign": {"black": "black"},
    "single": {"red": "red"},
    "superset": {name: name for name in COLOURS},
    "slash": {"blue": "blue", "red/orange": "red"},
}
IMAGES = 6


def write_folders(root: Path) -> None:
    """The class folders of every source, but `slash`, whose class name no folder can have: a JSON lines file."""
    draw = np.random.default_rng(0)
    for source, classes in FOLDERS.items():
        rows = []
        for name, colour in classes.items():
            folder = root / source / name.replace("/", "_")
            folder.mkdir(parents=True)
            for number in range(IMAGES):
                pixels = np.array(COLOURS[colour]) + draw.integers(-15, 15, (32, 32, 3))
                Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
                rows.append({"image": str(folder / f"{number}.png"), "label": name})
        (root / f"{source}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "reversed.txt").write_text("\n".join(reversed(TRAIN)) + "\n")


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> str:
    """The section `data` of a config with all sources built; `permuted` has the classes of train in reverse order."""
    root = tmp_path_factory.mktemp("colours")
    write_folders(root)
    lines = ["data:", f"  shards: {root / 'shards'}", "  max_drop_fraction: 0.9", "  sources:"]
    lines += [f"    {name}: {{reader: image_folder, path: {root / name}}}" for name in FOLDERS if name != "slash"]
    listed = f"options: {{label_key: label, class_names: {root / 'reversed.txt'}}}"
    lines.append(f"    permuted: {{reader: jsonl, path: {root / 'train.jsonl'}, {listed}}}")
    lines.append(f"    slash: {{reader: jsonl, path: {root / 'slash.jsonl'}, options: {{label_key: label}}}}")
    section = "\n".join(lines) + "\n"
    config = root / "build.yaml"
    config.write_text("name: build\nmodel: {base: none}\ntrain: {sources: [train]}\n" + section)
    build.main(["--config", str(config)])
    return section


@pytest.fixture
def write(tmp_path, colours, tiny_model):
    """Writes an evaluation config of one of the sources; keyword arguments are settings of its protocol."""

    def write(source: str, **protocol: object) -> str:
        file = tmp_path / "evaluation.yaml"
        values = {"name": "colours", "model": str(tiny_model), "source": source, "dtype": "fp32"}
        values |= {"output": str(tmp_path / "answers"), "protocol": {"max_new_tokens": 3} | protocol}
        values["probe"] = {"token_positions": ["mean"], "epochs": 60, "learning_rate": 0.05, "choose_epoch": "last"}
        file.write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in values.items()) + "\n" + colours)
        return str(file)

    return write


def refused(capsys, main, *arguments: str) -> str:
    """The one error line of a program that exits with code 2."""
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    assert left.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    return lines[-1]


def probe(capsys, config: str, *more: str) -> dict:
    capsys.readouterr()
    probing.main(["--config", config, "--train", "train", "--json", *more])
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_probe_tested_on_classes_in_another_order_or_fewer_has_the_accuracy_of_the_same_images(write, capsys):
    right = probe(capsys, write("train"))["token_positions"]["mean"]["accuracy"]
    assert right["value"] == 1.0
    permuted = probe(capsys, write("permuted"))
    assert permuted["token_positions"]["mean"]["accuracy"] == right
    subset = probe(capsys, write("subset"))
    assert subset["token_positions"]["mean"]["accuracy"] | {"low": 0} == {
        "value": 1.0, "low": 0, "high": 1.0, "count": 12, "n": 12
    }  # fmt: skip
    assert subset["data_notes"] == ["subset has items of 2 of the 4 classes of train; it has none of blue, red"]
    assert sorted(subset["token_positions"]["mean"]["correct_by_label"]) == ["1", "3"]
    assert probe(capsys, write("single"))["token_positions"]["mean"]["accuracy"]["n"] == IMAGES


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("other", "1 of 3 classes of other, 6 of 18 items, are not in the training source train: 'black' (6)"),
        ("superset", "1 of 5 classes of superset, 6 of 30 items"),
        (
            "capitals",
            "'Blue' (6), 'Green' (6); classes of the training source train without an item in capitals (4): blue",
        ),
        ("capitals", "2 of them differ in case, spaces, `_` or Unicode form only, such as 'Blue' and 'blue'"),
        ("foreign", "without an item in foreign (4): blue, green, red, white"),
        ("slash", "'red/orange' (6)"),
    ],
)
def test_test_items_of_a_class_without_training_are_refused_by_name_before_a_model_is_loaded(
    write, capsys, monkeypatch, source, named
):
    monkeypatch.setattr("eval.models.generative.load_model", None)
    for more in ([], ["--dry-run"]):
        error = refused(capsys, probing.main, "--config", write(source), "--train", "train", *more)
        assert named in error
        assert "protocol.unknown_classes=leave_out" in error


@pytest.mark.slow
def test_a_config_can_leave_unknown_classes_out_of_a_probe_and_then_counts_them(write, capsys):
    left_out = probe(capsys, write("other", unknown_classes="leave_out"))
    assert left_out["token_positions"]["mean"]["accuracy"]["n"] == 12
    assert left_out["token_positions"]["mean"]["accuracy"]["value"] == 1.0
    assert left_out["left_out_classes"] == {"black": 6}
    probing.main(["--config", write("other", unknown_classes="leave_out"), "--train", "train"])
    assert "'black' (6)" in capsys.readouterr().out
    error = refused(capsys, probing.main, "--config", write("foreign", unknown_classes="leave_out"), "--train", "train")
    assert "1 of 1 classes of foreign" in error


def test_heads_that_have_one_class_to_learn_are_refused(write, capsys):
    error = refused(capsys, probing.main, "--config", write("train"), "--train", "single", "--dry-run")
    assert "source single has items of 1 class (red); a linear probe needs at least 2" in error


def test_names_that_two_classes_share_match_by_index_only_between_equal_lists(write, capsys, colours, tmp_path):
    shards = Path(colours.split("shards: ")[1].split("\n")[0])
    manifest = shards / "permuted" / "manifest.json"
    kept = manifest.read_text()
    manifest.write_text(json.dumps(json.loads(kept) | {"class_names": ["white", "red", "red", "blue"]}))
    try:
        error = refused(capsys, probing.main, "--config", write("permuted"), "--train", "train", "--dry-run")
        assert "2 classes are called 'red' and the two class lists differ" in error
        probing.main(["--config", write("permuted"), "--train", "permuted", "--dry-run"])
    finally:
        manifest.write_text(kept)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["closed_world", "class_likelihood", "open_world"])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["Blue", "green", "red", "white"], "'blue' (6); classes of protocol.classes"),
        (["Blue", "green", "red", "white"], "such as 'blue' and 'Blue'"),
        (["green", "red", "white"], "1 of 4 classes of train, 6 of 24 items, are not in protocol.classes"),
        (["tench"], "4 of 4 classes of train"),
        (["blue ", "green", "red", "_White"], "2 of them differ in case, spaces, `_` or Unicode form only"),
    ],
)
def test_a_class_list_without_the_items_classes_is_refused_before_the_first_question_and_by_the_dry_run(
    write, capsys, monkeypatch, tmp_path, task, names, message
):
    monkeypatch.setattr("eval.runner.workers.evaluated_folders", None)
    (tmp_path / "names.json").write_text(json.dumps(names))
    config = write("train", task=task, classes=str(tmp_path / "names.json"))
    for more in ([], ["--dry-run"]):
        error = refused(capsys, run.main, "--config", config, *more)
        assert message.replace("protocol.classes", f"protocol.classes {tmp_path / 'names.json'}") in error


@pytest.mark.slow
def test_items_of_unlisted_classes_can_be_left_out_and_are_counted(write, capsys, tmp_path):
    (tmp_path / "names.txt").write_text("green\nred\nwhite\n")
    settings = {"task": "closed_world", "classes": str(tmp_path / "names.txt"), "unknown_classes": "leave_out"}
    run.main(["--config", write("train", **settings), "--dry-run"])
    assert "these items are left out and counted as failed" in capsys.readouterr().out
    run.main(["--config", write("train", **settings)])
    assert "'blue' (6)" in capsys.readouterr().err
    (report,) = (tmp_path / "answers").rglob("report.json")
    items = json.loads(report.read_text())["items"]
    assert (items["answered"], items["failed"]) == (18, 6)


def test_a_class_list_with_more_names_than_the_items_have_is_used_and_said(write, capsys, tmp_path):
    (tmp_path / "names.txt").write_text("blue\ngreen\nred\nwhite\nyellow\n")
    config = write("train", task="closed_world", classes=str(tmp_path / "names.txt"))
    run.main(["--config", config, "--dry-run"])
    assert "have no item in train, where they can only be wrong answers: yellow" in capsys.readouterr().out


@pytest.fixture
def trained_run(tmp_path, colours, tiny_model) -> str:
    """An exported model in the folder of a run that trained on source `train`."""
    run = RunDir(tmp_path / "run")
    shutil.copytree(tiny_model, run.export)
    run.config.write_text("name: run\nmodel: {base: none}\ntrain: {sources: [train]}\n" + colours)
    return str(run.export)


@pytest.mark.slow
def test_an_evaluation_of_a_run_says_which_items_it_trained_on_and_which_classes_it_never_saw(
    write, trained_run, capsys, tmp_path, colours
):
    model = ["--set", f"model={trained_run}"]
    for source, note in (
        ("permuted", "24 of 24 images of permuted are also in the training source train"),
        ("train", "train is used for training and for testing"),
        ("superset", "'black' (6)"),
        ("foreign", "no class of foreign is a class of the training source train"),
    ):
        config = write(source)
        run.main(["--config", config, *model, "--dry-run"])
        assert note in capsys.readouterr().out
    run.main(["--config", write("permuted"), *model])
    assert "24 of 24 images of permuted" in capsys.readouterr().err
    (report,) = (tmp_path / "answers").rglob("report.json")
    assert "24 of 24 images of permuted" in " ".join(json.loads(report.read_text())["data_notes"])
    assert "24 of 24 images of permuted" in report.with_name("report.md").read_text()
    run.main(["--config", write("permuted"), *model, "--report-only"])
    run.main(["--config", write("permuted"), "--dry-run"])
    assert "training source" not in capsys.readouterr().out, "a model of no run"


def test_shards_of_other_training_data_are_not_said_to_be_gone(write, colours, tmp_path):
    run = RunDir(tmp_path / "run")
    run.export.mkdir(parents=True)
    data = colours.replace("/train}", "/gone}")
    run.config.write_text("name: run\nmodel: {base: none}\ntrain: {sources: [train]}\n" + data)
    (note,) = training_notes(load_config(EvalConfig, Path(write("subset")), [f"model={run.export}"])[0])
    assert note.startswith("whether test images are also in the training source train was not checked: the shards in ")
    assert "path is " in note


def test_a_report_says_how_many_records_the_training_shards_lack(write, tmp_path, colours):
    run, data = RunDir(tmp_path / "runs/lacking"), yaml.safe_load(colours)["data"]
    shutil.copytree(data["shards"], tmp_path / "shards")
    manifest = tmp_path / "shards/train/manifest.json"
    drop = {"id": "red/cut", "reason": "does not decode: truncated", "file": "red/cut.png"}
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"drops": [drop], "records": 25}))
    run.export.mkdir(parents=True)
    section = colours.replace(f"shards: {data['shards']}", f"shards: {tmp_path / 'shards'}")
    run.config.write_text("name: run\nmodel: {base: none}\ntrain: {sources: [train]}\n" + section)
    notes = training_notes(load_config(EvalConfig, Path(write("foreign")), [f"model={run.export}"])[0])
    assert "1 of 25 records of train left out: 1 x does not decode (red/cut.png)" in notes


@pytest.mark.slow
def test_training_data_that_is_elsewhere_is_said_to_be_unchecked(write, trained_run, capsys, colours):
    config = Path(trained_run).parent / "config.yaml"
    config.write_text(config.read_text().replace("sources: [train]", "sources: [slash, gone]"))
    config.write_text(config.read_text() + "    gone: {reader: jsonl}\n")
    run.main(["--config", write("subset"), "--set", f"model={trained_run}", "--dry-run"])
    assert "the shards of the training source gone are not in" in capsys.readouterr().out


@pytest.mark.slow
def test_a_probe_says_that_test_images_are_also_training_images(write, capsys):
    probing.main(["--config", write("permuted"), "--train", "train", "--dry-run"])
    assert "24 of 24 images of permuted are also in the training source train" in capsys.readouterr().out
    probing.main(["--config", write("permuted"), "--train", "train", "--dry-run", "--json"])
    planned = json.loads(capsys.readouterr().out)
    assert [source["source"] for source in planned["sources"]] == ["train", "permuted"]
    assert "24 of 24 images of permuted" in "".join(planned["notes"])
    assert "24 of 24 images" in "".join(probe(capsys, write("permuted"))["data_notes"])


@pytest.fixture
def two_answers(write, tmp_path) -> list[str]:
    """The folders of two evaluations of source `train`."""
    folders = [str(tmp_path / name) for name in ("first", "second")]
    for folder in folders:
        run.main(["--config", write("train"), "--set", f"output={folder}"])
    return folders


def change(folder: str, **changes) -> None:
    """Change the class names of stored answers, as of an evaluation on other shards."""
    lines = [json.loads(line) for line in (Path(folder) / "predictions-00000.jsonl").read_text().splitlines()]
    lines = [line | {"label_name": changes.get(line["label_name"], line["label_name"])} for line in lines]
    (Path(folder) / "predictions-00000.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    evaluation = Path(folder) / "evaluation.json"
    values = json.loads(evaluation.read_text())
    values["generation_settings"]["data"] = "f" * 64
    evaluation.write_text(json.dumps(values))


@pytest.mark.slow
def test_answers_about_other_classes_under_the_same_ids_are_not_compared(two_answers, capsys):
    paired.main(two_answers)
    assert "the shards differ" not in capsys.readouterr().err
    change(two_answers[1])
    paired.main(two_answers)
    assert "the shards differ (data " in capsys.readouterr().err
    change(two_answers[1], red="Red", blue="green")
    error = refused(capsys, paired.main, *two_answers)
    assert "12 of the 24 items with the same id have another class in the second evaluation" in error
    assert "train/blue/0: 'blue' and 'green'" in error


def test_classes_of_several_seeds_are_added_up_by_name():
    first = [ClassResult(0, "cat", 1, 2, 0), ClassResult(1, "missile", 1, 0, 0), ClassResult(2, "missile", 5, 0, 0)]
    second = [ClassResult(0, "missile", 2, 0, 0), ClassResult(1, "missile", 6, 0, 0), ClassResult(5, "cat", 3, 1, 0)]
    pooled = pooled_classes([first, second])
    assert [(result.name, result.correct) for result in pooled] == [("cat", 4), ("missile", 3), ("missile", 11)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"blue": ["azure"], "green": ["lime"]}, ""),
        ({"blue": ["azure"], "mauve": ["pink"]}, "1 of 2 names in protocol.synonyms"),
        ({"Blue": ["azure"], "green": ["lime"]}, "error: 1 of 2 names in protocol.synonyms"),
        ({"mauve": ["pink"]}, "error: 1 of 1 names in protocol.synonyms"),
    ],
)
def test_synonyms_of_other_spellings_or_of_no_class_are_named(write, capsys, tmp_path, names, expected):
    file = tmp_path / "synonyms.json"
    file.write_text(json.dumps(names))
    arguments = ["--config", write("train", synonyms=str(file)), "--dry-run"]
    if expected.startswith("error"):
        error = refused(capsys, run.main, *arguments)
        assert error.startswith(expected) and "its classes are 'blue', 'green', 'red', 'white'" in error
        return
    run.main(arguments)
    shown = capsys.readouterr().out
    assert expected in shown and ("their synonyms are not used" in shown) == bool(expected)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["blue", "green", "red", "white"], ""),
        (["blue", "green", "red"], "1 of 4 classes have no frequency in"),
        (["Blue", "green", "red", "white"], "error: 1 of 4 classes have no frequency in"),
        (["tench"], "error: 4 of 4 classes have no frequency in"),
    ],
)
def test_class_frequencies_of_other_names_are_named_before_the_first_question(write, capsys, tmp_path, names, expected):
    file = tmp_path / "frequencies.json"
    file.write_text(
        json.dumps({"class_names": names, "rules": {"plain": {"stage": {"occurrences": [3] * len(names)}}}})
    )
    arguments = ["--config", write("train"), "--set", f"frequency_file={file}", "--dry-run"]
    if expected.startswith("error"):
        assert refused(capsys, run.main, *arguments).startswith(expected)
        return
    run.main(arguments)
    shown = capsys.readouterr().out
    assert expected in shown and ("their frequency counts as 0" in shown) == bool(expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["white", "red", "green", "blue"], "the first that differs was 'blue' and is 'white'"),
        (["blue", "green", "red", "white", "pink"], "(4 names then, 5 now)"),
    ],
)
def test_scores_of_a_class_list_that_was_reordered_since_are_not_read_by_the_new_order(
    write, capsys, tmp_path, names, message
):
    file = tmp_path / "names.json"
    file.write_text(json.dumps(list(TRAIN)))
    run.main(["--config", write("train", task="class_likelihood", classes=str(file))])
    answers = str(tmp_path / "answers")
    paired.main([answers, "--rescore", "rule=mean"])
    file.write_text(json.dumps(names))
    error = refused(capsys, paired.main, answers, "--rescore", "rule=mean")
    assert message in error and "restore the list" in error
    config = write("train", task="class_likelihood", classes=str(file))
    assert "classes_sha256 was" in refused(capsys, run.main, "--config", config, "--report-only")


def test_classes_that_the_model_cannot_write_are_named_by_the_dry_run_and_the_report(write, tmp_path, capsys):
    config = write("train", prompt="What is this?")
    said = "the model's tokenizer cannot write 3 of 4 class names as they are ('blue' becomes '<unk>'"
    run.main(["--config", config, "--dry-run"])
    assert f"classes     {said}" in capsys.readouterr().out
    run.main(["--config", config, "--set", "limit=1"])
    assert said in " ".join(json.loads((tmp_path / "answers" / "report.json").read_text())["data_notes"])
