"""The entry point: an evaluation from config to report, workers, resuming, and what it refuses."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from configs.errors import DataError
from configs.eval_dir import EvalDir
from data_prep.shards import ShardSet
from eval.models.generate import TextPredictor
from eval.run import main
from eval.runner.predictions import PredictionWriter, read_records

ROOT = Path(__file__).resolve().parents[2]


def answers(folder: Path) -> dict[str, tuple]:
    """Everything of every prediction but its time."""
    records = read_records(EvalDir(folder))
    return {key: (p.prompt_hash, p.target, p.answer, p.num_tokens, p.stopped) for key, p in records.predictions.items()}


def lines(folder: Path) -> list[dict]:
    """All lines of all workers."""
    return [json.loads(line) for path in EvalDir(folder).all_predictions() for line in path.read_text().splitlines()]


def test_an_evaluation_answers_every_item_and_writes_three_reports(write_config, tmp_path, capsys):
    main(["--config", str(write_config())])
    folder = EvalDir(tmp_path / "answers")
    assert len(answers(folder.root)) == 15
    report = json.loads(folder.report("json").read_text())
    assert report["items"] == {"expected": 15, "answered": 15, "failed": 0, "missing": 0, "source": 15}
    assert sum(report[key]["count"] for key in ("accuracy", "wrong", "no_answer")) == 15
    assert folder.report("md").is_file()
    assert "n = 15" in capsys.readouterr().out
    assert folder.report("html").read_text().startswith("<!DOCTYPE html>")


def test_a_second_run_asks_nothing(write_config, tmp_path, counted):
    config = write_config()
    main(["--config", str(config)])
    before = lines(tmp_path / "answers")
    assert len(counted) == 15
    main(["--config", str(config)])
    assert len(counted) == 15
    assert lines(tmp_path / "answers") == before


def test_a_model_that_answered_is_not_checked_by_a_dry_run(write_config, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VLM_CLASSIFY_CACHE", str(tmp_path / "cache"))
    config = str(write_config())
    main(["--config", config, "--set", "limit=1"])
    main(["--config", config, "--dry-run"])
    assert "unchanged since" in capsys.readouterr().out


@pytest.mark.slow
def test_workers_share_the_items_and_the_report_comes_later(write_config, tmp_path, counted):
    config = write_config()
    for worker in range(3):
        main(["--config", str(config), "--worker", str(worker), "--workers", "3"])
    folder = EvalDir(tmp_path / "answers")
    assert len(folder.all_predictions()) == 3
    assert not folder.report("json").exists()
    assert len(counted) == len(lines(folder.root)) == 15
    main(["--config", str(config), "--report-only"])
    assert json.loads(folder.report("json").read_text())["items"]["missing"] == 0
    main(["--config", str(config)])  # another number of workers: nothing is asked again
    assert len(counted) == 15


@pytest.mark.slow
def test_workers_give_the_answers_of_one_process(write_config, tmp_path):
    main(["--config", str(write_config())])
    main(["--config", str(write_config(output=str(tmp_path / "two"))), "--processes", "2"])
    assert len(EvalDir(tmp_path / "two").all_predictions()) == 2
    assert answers(tmp_path / "two") == answers(tmp_path / "answers")


@pytest.mark.slow
def test_a_run_cut_anywhere_continues_to_the_same_answers_and_asks_nothing_twice(write_config, tmp_path):
    config = write_config()
    main(["--config", str(config)])
    file = EvalDir(tmp_path / "answers").predictions(0)
    whole, expected = file.read_bytes(), answers(tmp_path / "answers")
    for cut in (1, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        main(["--config", str(config)])
        assert answers(tmp_path / "answers") == expected
        ids = [line["id"] for line in lines(tmp_path / "answers")]
        assert len(ids) == len(set(ids)) == 15


@pytest.mark.slow
def test_a_killed_evaluation_continues_to_the_same_answers(write_config, tmp_path):
    main(["--config", str(write_config(batch_size=1, protocol={"max_new_tokens": 20}))])
    expected = answers(tmp_path / "answers")
    config = write_config(batch_size=1, protocol={"max_new_tokens": 20}, output=str(tmp_path / "killed"))
    command = [sys.executable, "tests/eval/killed_evaluation.py", "eval.run", "--config", str(config)]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, start_new_session=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = answers(tmp_path / "killed")
    assert 0 < len(done) < 15
    main(command[3:])
    assert answers(tmp_path / "killed") == expected
    ids = [line["id"] for line in lines(tmp_path / "killed")]
    assert len(ids) == len(set(ids)) == 15


def test_a_full_disk_is_one_line_and_the_same_command_continues(write_config, tmp_path, monkeypatch, capsys):
    original, config = os.write, str(write_config())

    def full(file, data):
        if not bytes(data).startswith(b'{"id"') or len(lines(tmp_path / "answers")) < 4:
            return original(file, data)
        original(file, bytes(data)[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SystemExit) as left:
        main(["--config", config])
    assert left.value.code == 2
    assert "cannot be written (No space left on device); make room" in capsys.readouterr().err
    monkeypatch.setattr(os, "write", original)
    main(["--config", config])
    ids = [line["id"] for line in lines(tmp_path / "answers")]
    assert len(ids) == len(set(ids)) == 15


def test_multiple_choice_asks_the_stored_question_with_the_answer_prefix(write_config, tmp_path):
    protocol = {"task": "multiple_choice", "answer_prefix": "Let's think step by step."}
    main(["--config", str(write_config(source="quiz", protocol=protocol))])
    records = read_records(EvalDir(tmp_path / "answers")).predictions
    assert len(records) == 8
    assert {p.target for p in records.values()} == set("ABCD")
    assert all(p.choices == ("red", "moss", "bark", "step") for p in records.values())
    report = json.loads(EvalDir(tmp_path / "answers").report("json").read_text())
    assert {row["name"] for row in report["classes"]} == {"tench", "wild_dog", "cat"}


@pytest.mark.slow
def test_a_limit_chooses_the_same_items_every_time_and_a_larger_one_keeps_them(write_config, tmp_path, counted):
    main(["--config", str(write_config(limit=4))])
    few = set(answers(tmp_path / "answers"))
    main(["--config", str(write_config(limit=9))])
    assert len(few) == 4
    assert few < set(answers(tmp_path / "answers"))
    assert len(answers(tmp_path / "answers")) == 9
    main(["--config", str(write_config(limit=4))])
    report = json.loads(EvalDir(tmp_path / "answers").report("json").read_text())
    assert (report["items"]["expected"], report["accuracy"]["n"]) == (4, 4)


@pytest.mark.slow
def test_another_matching_rule_needs_no_new_answers(write_config, tmp_path, counted):
    main(["--config", str(write_config())])
    first = json.loads(EvalDir(tmp_path / "answers").report("json").read_text())
    config = str(write_config(protocol={"match": "exact"}))
    main(["--config", config, "--report-only"])
    second = json.loads(EvalDir(tmp_path / "answers").report("json").read_text())
    assert (first["protocol"]["match"], second["protocol"]["match"]) == ("contains", "exact")
    assert first["protocol"]["hash"] != second["protocol"]["hash"]
    main(["--config", config])
    assert len(counted) == 15


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["--report-only"]])
def test_answers_to_other_questions_are_not_mixed(write_config, tmp_path, capsys, arguments):
    main(["--config", str(write_config())])
    with pytest.raises(SystemExit) as left:
        main(["--config", str(write_config(protocol={"prompt": "identify"})), *arguments])
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert "prompt was 'paper' and is now 'identify'" in error
    assert "delete" in error


def test_another_model_is_refused(write_config, tmp_path, tiny_model, capsys):
    from train.toy.random_models import write_random_base

    main(["--config", str(write_config())])
    other = write_random_base(tmp_path / "other", "tiny", seed=1)
    with pytest.raises(SystemExit):
        main(["--config", str(write_config(model=str(other)))])
    assert re.search(r"model was \w{12}\.\.\. and is now \w{12}\.\.\.", capsys.readouterr().err)


@pytest.mark.slow
@pytest.mark.parametrize("inside_run", [False, True])
def test_no_report_is_made_of_answers_of_weights_that_were_replaced(
    write_config, tmp_path, tiny_model, capsys, inside_run
):
    from train.toy.random_models import write_random_base

    model = shutil.copytree(tiny_model, tmp_path / "run" / "export")
    if inside_run:
        (tmp_path / "run" / "config.yaml").write_text(
            "name: x\ndata: {sources: {a: {reader: image_folder, path: a}}}\nmodel: {base: b}\ntrain: {sources: [a]}\n"
        )
    arguments = ["--config", str(write_config(model=str(model)))]
    main(arguments)
    main([*arguments, "--report-only"])
    (changed,) = write_random_base(tmp_path / "other", "tiny", seed=1).glob("*.safetensors")
    shutil.copy(changed, model)
    with pytest.raises(SystemExit):
        main([*arguments, "--report-only"])
    assert "holds answers of other weights: model was" in capsys.readouterr().err
    shutil.rmtree(model)
    if not inside_run:  # a folder that is gone is in no run
        main([*arguments, "--report-only"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("processor_config.json", {"image_processor": {"resample": 0}}),
        ("generation_config.json", {"eos_token_id": [2, 5]}),
        ("config.json", {"vision_feature_layer": -1}),
    ],
)
def test_answers_of_other_settings_of_the_model_folder_are_not_mixed(
    write_config, tmp_path, tiny_model, capsys, file, change
):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    config = str(write_config(model=str(model), limit=2))
    main(["--config", config])
    values = json.loads((model / file).read_text()) if (model / file).is_file() else {}
    (model / file).write_text(json.dumps(values | {"transformers_version": "0.0.1"}))
    same = [[], ["--report-only"]] if values else []
    for arguments in same:
        main(["--config", config, *arguments])
    (model / file).write_text(json.dumps(values | change))
    capsys.readouterr()
    for arguments in ([], ["--report-only"]):
        with pytest.raises(SystemExit) as left:
            main(["--config", config, *arguments])
        assert left.value.code == 2
        assert f"holds answers to other questions: the model's {file} was " in capsys.readouterr().err


def test_answers_stored_before_a_model_folders_settings_were_are_continued(write_config, tmp_path, counted):
    config, folder = str(write_config(limit=2)), EvalDir(tmp_path / "answers")
    main(["--config", config])
    values = json.loads(folder.config.read_text())
    assert {"config.json", "tokenizer.json"} <= values["generation_settings"].pop("model_files").keys()
    folder.config.write_text(json.dumps(values))
    main(["--config", config])
    assert len(counted) == 2
    assert "model_files" in json.loads(folder.config.read_text())["generation_settings"]
    assert "model_files" not in json.loads(folder.report("json").read_text())["protocol"]


@pytest.mark.slow
def test_a_failing_item_is_named_and_counted_and_never_scored(write_config, tmp_path, monkeypatch, capsys):
    original = ShardSet.sample

    def damaged(self, number):
        if number == 2:
            raise DataError("shard 000000.tar is damaged")
        return original(self, number)

    monkeypatch.setattr(ShardSet, "sample", damaged)
    config = str(write_config())
    main(["--config", config])
    printed = capsys.readouterr()
    assert "shard 000000.tar is damaged" in printed.err
    report = json.loads(EvalDir(tmp_path / "answers").report("json").read_text())
    assert report["items"] == {"expected": 15, "answered": 14, "failed": 1, "missing": 0, "source": 15}
    assert report["accuracy"]["n"] == 14
    assert "damaged" in report["failures"][0]["reason"]
    main(["--config", config])
    assert len(lines(tmp_path / "answers")) == 15  # the same failure is not written twice
    monkeypatch.setattr(ShardSet, "sample", original)
    main(["--config", config])
    report = json.loads(EvalDir(tmp_path / "answers").report("json").read_text())
    assert (report["items"]["answered"], report["items"]["failed"]) == (15, 0)


@pytest.mark.slow
def test_an_item_that_fails_once_gets_the_answer_it_would_have_had(write_config, tmp_path, monkeypatch):
    main(["--config", str(write_config(output=str(tmp_path / "calm")))])
    original = ShardSet.sample

    def flaky(self, number):
        if number == 5:
            raise DataError("not now")
        return original(self, number)

    monkeypatch.setattr(ShardSet, "sample", flaky)
    main(["--config", str(write_config())])
    monkeypatch.setattr(ShardSet, "sample", original)
    main(["--config", str(write_config())])
    assert answers(tmp_path / "answers") == answers(tmp_path / "calm")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["open_world", "class_likelihood"])
def test_an_item_whose_output_is_no_number_is_counted_and_never_scored(write_config, tmp_path, monkeypatch, task):
    original = TextPredictor.inputs

    def broken(self, ids, mask, prompts):
        inputs = original(self, ids, mask, prompts)
        inputs.states[1:, -1] = float("nan")  # of a batch all but the first
        return inputs

    monkeypatch.setattr(TextPredictor, "inputs", broken)
    names = tmp_path / "names.txt"
    names.write_text("tench\nwild dog\ncat\n")
    main(["--config", str(write_config(protocol={"task": task, "classes": str(names)}))])
    report = json.loads(EvalDir(tmp_path / "answers").report("json").read_text())
    assert (report["items"]["answered"], report["items"]["failed"]) == (4, 11)  # batches of 4, 4, 4, 3
    assert "is not finite" in report["failures"][0]["reason"]


def test_a_dry_run_shows_the_questions_and_writes_nothing(write_config, tmp_path, capsys):
    main(["--config", str(write_config(limit=7, model="not/there")), "--dry-run", "--worker", "1", "--workers", "2"])
    printed = capsys.readouterr().out
    assert "7 of 15 items, 3 for this worker" in printed
    assert "What type of object is in this photo?" in printed
    assert not (tmp_path / "answers").exists()


def test_the_resolved_config_can_be_printed(write_config, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--config", str(write_config()), "--set", "protocol.match=word", "--print-config"])
    assert re.search(r"protocol.match = 'word' +# --set protocol.match=word", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({"model": "./nowhere"}, [], "no model folder ./nowhere"),
        ({"model": "runs/later"}, [], "train it first with `python train/finetune.py --config FILE --set name=later`"),
        ({}, ["--workers", "2"], "needs --worker"),
        ({}, ["--workers", "2", "--worker", "2"], "--worker must be in 0..1"),
        ({}, ["--processes", "0"], "--processes is 0"),
        ({"protocol": {"task": "hidden_states"}}, [], "python -m eval.probing stores and uses it"),
        ({}, ["--report-only"], "holds no answers yet"),
        ({"paper_row": "table1/open_world/LLaVA1.5-7B/ImageNett"}, [], "table1/open_world/LLaVA1.5-7B/ImageNet"),
        ({"protocol": {"prompt": "nice"}}, [], "unknown prompt 'nice'"),
        ({"protocol": {"synonyms": "none.json"}}, [], "no synonyms none.json"),
        ({"source": "nothing"}, [], "source 'nothing' is not in data.sources"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(write_config, capsys, settings, arguments, message):
    with pytest.raises(SystemExit) as left:
        main(["--config", str(write_config(**settings)), *arguments])
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert message in error
    assert error.count("error:") == 1


def test_unbuilt_shards_are_reported_with_the_command_that_builds_them(write_config, tmp_path, capsys):
    file, shards = str(write_config()), f"data.shards={tmp_path / 'none'}"
    with pytest.raises(SystemExit):
        main(["--config", file, "--set", shards, "--protocol", "paper"])
    assert f"`python -m data_prep.build --config {file} --set {shards}`" in capsys.readouterr().err


def test_a_dry_run_shortens_long_questions_and_refuses_those_that_the_model_has_no_room_for(
    write_config, tmp_path, capsys, tiny_model
):
    words = " ".join(["red"] * 400)
    config = str(write_config())
    main(["--config", config, "--dry-run", "--set", f"protocol.prompt=A{words}Z"])
    printed = capsys.readouterr().out
    assert re.search(r" … \[9\d\d characters\] … ", printed)
    assert f"{words[-100:]}Z" in printed
    assert f"  human: <image>\nA{words[:400]}" in printed
    with pytest.raises(SystemExit):
        main(["--config", config, "--dry-run", "--set", f"protocol.prompt={words} {words} {words}"])
    error = capsys.readouterr().err
    assert "each of the first 3 questions has 1," in error
    assert "has 512 positions: every item would fail; ask about fewer classes" in error


def test_a_dry_run_says_that_a_worker_has_no_items(write_config, capsys):
    main(["--config", str(write_config()), "--dry-run", "--worker", "15", "--workers", "16"])
    assert "0 for this worker (there are " in capsys.readouterr().out


def test_a_dry_run_without_model_and_data_names_the_model_first(write_config, tmp_path, capsys):
    gone = [f"data.shards={tmp_path / 'none'}", f"model={tmp_path / 'no_run'}"]
    with pytest.raises(SystemExit):
        main(["--config", str(write_config()), "--set", gone[0], "--set", gone[1], "--dry-run"])
    assert f"no model folder {tmp_path / 'no_run'}" in capsys.readouterr().err


def test_a_file_being_written_by_another_process_is_refused(write_config, tmp_path, capsys):
    config = str(write_config())
    main(["--config", config])
    with PredictionWriter(EvalDir(tmp_path / "answers").predictions(0)), pytest.raises(SystemExit):
        main(["--config", config])
    assert "is being written by another process" in capsys.readouterr().err


def test_answers_that_do_not_say_to_what_are_refused(write_config, tmp_path, capsys):
    config = str(write_config())
    main(["--config", config])
    EvalDir(tmp_path / "answers").config.unlink()
    with pytest.raises(SystemExit):
        main(["--config", config])
    assert "no evaluation.json, which says what they answer; restore the file" in capsys.readouterr().err


def test_a_torn_evaluation_json_keeps_the_answers(write_config, tmp_path, capsys):
    config, folder = str(write_config()), EvalDir(tmp_path / "answers")
    main(["--config", config])
    folder.config.write_text(folder.config.read_text()[:100])
    before = [path.read_bytes() for path in folder.all_predictions()]
    with pytest.raises(SystemExit):
        main(["--config", config])
    error = capsys.readouterr().err
    assert "evaluation.json is damaged" in error
    assert "the answers next to it are kept. Restore the file from a copy, or set output to another folder" in error
    assert "delete" not in error
    assert before == [path.read_bytes() for path in folder.all_predictions()] != []


@pytest.mark.slow
def test_several_checkpoints_are_evaluated_in_a_row_and_the_best_is_named(
    write_config, tmp_path, tiny_model, monkeypatch, capsys
):
    copies = [(f"step-{step:08d}", tmp_path / f"export-step-{step:08d}") for step in (1, 2)]
    for _, folder in copies:
        shutil.copytree(tiny_model, folder)
    monkeypatch.setattr("eval.models.factory.model_folders", lambda *_: copies)
    main(["--config", str(write_config(checkpoint="all"))])
    summary = json.loads((tmp_path / "answers" / "summary.json").read_text())
    assert set(summary["models"]) == {"step-00000001", "step-00000002"}
    assert summary["best"] == "step-00000001"  # of equal ones the first
    assert "step-00000001 (best)" in capsys.readouterr().out


@pytest.mark.slow
def test_a_class_list_that_changed_at_its_place_is_refused(write_config, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("tench\nwild dog\ncat\n")
    config = str(write_config(protocol={"task": "class_likelihood", "classes": str(names)}))
    main(["--config", config])
    names.write_text("tench\nwild dog\ncat\nred moss\n")
    with pytest.raises(SystemExit):
        main(["--config", config])
    assert "classes_sha256 was" in capsys.readouterr().err
