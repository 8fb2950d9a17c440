"""The paper's rows on one model: planned, asked once, judged many times, resumed, listed where they cannot be run."""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from configs.eval_dir import EvalDir, ResultsDir
from configs.run_dir import CheckpointDir, RunDir
from eval.paper.execute import Outcome, write_record
from eval.paper.plan import Request, dataset_names, open_dataset, plan
from eval.reproduce import main
from eval.runner.predictions import PredictionWriter, read_records
from train.toy.random_models import write_random_base

pytestmark = pytest.mark.slow

ASKED = ("open", "identify", "main_object", "closed", "closed_fixed", "closed_cot", "candidates_2", "scores", "caption")


@pytest.fixture
def world(tmp_path, data_section, monkeypatch):
    """Data sets `pets` and `quiz` as YAML files, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    for name, task in (("pets", "open_world"), ("quiz", "multiple_choice")):
        lines = [f"name: {name}", "model: none", f"source: {name}", "dtype: fp32", "batch_size: 4"]
        lines += [f"protocol: {{task: {task}, max_new_tokens: 4}}", data_section]
        lines += ["probe_source: pets", "frequency_sources: [pets]"] if name == "pets" else []
        (tmp_path / f"{name}.yaml").write_text("\n".join(lines))
    return tmp_path


def run(model: Path, *arguments: str) -> dict[tuple[str, str], dict]:
    """Reproduce on pets and quiz; the outcomes by data set and row."""
    settings = ["--set", "protocol.system_prompt=none", "--set", "protocol.max_new_tokens=4"]
    main(["--model", str(model), "--datasets", "pets.yaml", "quiz.yaml", *settings, "--probe-epochs", "2", *arguments])
    (record,) = Path("runs/eval").glob("reproduction-paper-*.json")
    return {(row["dataset"], row["row"]): row for row in json.loads(record.read_text())["rows"]}


def test_every_row_has_a_result_or_a_reason_and_nothing_is_asked_twice(world, tiny_model, counted):
    rows = run(tiny_model)
    unable = {key[1]: row["reason"] for key, row in rows.items() if row["reason"]}
    assert set(unable) == {
        "synonyms", "candidates_5", "candidates_20", "candidates_100", "scores_5", "scores_20", "scores_100", "linear",
        "frequency_clip", "zero_shot", "zero_shot_2", "zero_shot_5", "zero_shot_20", "zero_shot_100",
    }  # fmt: skip
    assert unable["candidates_20"] == "there are only 3 classes"
    assert rows["pets", "scores_2"]["accuracy"]["n"] == rows["pets", "open"]["accuracy"]["n"] == 15
    assert rows["quiz", "max_frequency"]["note"] == "25.0% of 8"
    told = {row["protocol"] for key, row in rows.items() if row["accuracy"] and key[1] != "probe"}
    assert all(re.fullmatch("paper [0-9a-f]{12}", tag) for tag in told)
    assert rows["pets", "scores"]["protocol"] != rows["pets", "scores_mean"]["protocol"]
    assert len(rows) == 28 + 5
    first = len(counted)
    assert first == (len(ASKED) - 1) * 15 + 3 * 8  # class scores do not go through `answer`
    assert run(tiny_model) == rows
    assert len(counted) == first


def test_views_do_not_touch_the_answers_and_a_lost_answer_alone_is_asked_again(world, tiny_model, counted):
    run(tiny_model, "--rows", "open", "scores_2")
    (folder,) = Path("runs/eval/paper_pets_open").glob("*/")
    file = EvalDir(folder).predictions(0)
    lines = file.read_text().splitlines(keepends=True)
    before = read_records(EvalDir(folder))
    file.write_text("".join(lines[:-1]))
    counted.clear()
    run(tiny_model, "--rows", "open")
    assert 1 <= len(counted) <= 4  # the lost one's batch
    after = read_records(EvalDir(folder))
    assert {k: p.answer for k, p in after.predictions.items()} == {k: p.answer for k, p in before.predictions.items()}
    (view,) = Path("runs/eval/paper_pets_scores_2").glob("*/")
    assert not EvalDir(view).config.is_file()  # no answers of its own
    assert json.loads(EvalDir(view).report("json").read_text())["answers_of"].startswith("../../paper_pets_scores/")


def test_the_guidance_of_a_mixture_is_the_number_of_its_own_form(world, tiny_model):
    def guided(*arguments: str) -> tuple[dict, dict]:
        row = run(tiny_model, "--rows", "scores", "guidance", *arguments)["pets", "guidance"]
        return row, json.loads((Path(row["folder"]) / "guidance.json").read_text())

    plain, results = guided()
    assert results["own"] == "paper"
    assert set(results["forms"]) == {"paper", "official", "clean"}
    mixed, results = guided("--set", "protocol.cfg_form=log")
    own = results["forms"]["own"]
    assert (own["form"], own["prior"], own["mean"]) == ("log", "no_image", True)
    assert mixed["accuracy"] == own["held_out"]["accuracy"]
    assert mixed["note"].startswith(f"form own, t = {own['held_out']['guidance']:g} chosen on ")
    assert mixed["protocol"] != plain["protocol"]
    assert mixed["protocol"].split()[1] == results["protocol"]["hash"]
    assert results["protocol"]["cfg_form"] == "log"


@pytest.mark.parametrize("lost", [0, 4])
def test_a_guidance_that_needs_what_was_not_stored_says_so_and_the_other_rows_go_on(world, tiny_model, lost):
    """All lines lack the probabilities, or all but some do: those of a call that was cut short."""
    literal = ("--set", "protocol.token_scores=probability")
    run(tiny_model, "--rows", "scores", "guidance")
    if lost:
        (folder,) = map(EvalDir, Path("runs/eval/paper_pets_scores").glob("*/"))
        kept = folder.predictions(0).read_text().splitlines(keepends=True)[lost:]
        folder.predictions(0).write_text("".join(kept))
    rows = run(tiny_model, "--rows", "open", "scores", "guidance", *literal)
    for key in ("scores", "guidance"):
        assert "protocol.token_scores is probability" in rows["pets", key]["reason"]
        assert "delete their folder" in rows["pets", key]["reason"]
    assert rows["pets", "open"]["accuracy"]["n"] == 15
    shutil.rmtree("runs/eval/paper_pets_scores")
    rows = run(tiny_model, "--rows", "scores", "guidance", *literal)
    assert rows["pets", "guidance"]["note"].startswith("form literal, ")


def test_answers_of_which_a_kill_left_no_whole_line_are_a_reason_and_the_other_rows_go_on(world, tiny_model):
    run(tiny_model, "--rows", "open", "identify", "main_object")
    for row, left in (("open", b'{"id": "to'), ("identify", b'{"id": "\xff"}\n')):
        (folder,) = map(EvalDir, Path(f"runs/eval/paper_pets_{row}").glob("*/"))
        folder.predictions(0).write_bytes(left)
    rows = run(tiny_model, "--rows", "open", "identify", "main_object", "--report-only")
    assert rows["pets", "open"]["reason"] == "no item is evaluated yet"
    assert "line 1 is not a prediction" in rows["pets", "identify"]["reason"]
    assert rows["pets", "main_object"]["accuracy"]["n"] == 15


def test_workers_share_the_questions_and_a_last_call_finishes(world, tiny_model):
    whole = run(tiny_model, "--rows", "open", "closed", "questions")
    shutil.rmtree("runs")
    for worker in range(2):
        arguments = ["--rows", "open", "closed", "questions", "--worker", str(worker), "--workers", "2"]
        settings = ["--set", "protocol.system_prompt=none", "--set", "protocol.max_new_tokens=4"]
        main(["--model", str(tiny_model), "--datasets", "pets.yaml", "quiz.yaml", *settings, *arguments])
    shared = run(tiny_model, "--rows", "open", "closed", "questions", "--report-only")
    assert {key: row["accuracy"] for key, row in shared.items()} == {k: row["accuracy"] for k, row in whole.items()}


def test_a_process_that_cannot_ask_its_share_is_reported_next_to_what_the_others_got(world, tiny_model):
    """Process 1's file is held by someone else; process 0 asks its own items meanwhile, before it or after."""
    run(tiny_model, "--rows", "open")
    (folder,) = map(EvalDir, Path("runs/eval/paper_pets_open").glob("*/"))
    folder.predictions(0).write_text("")
    with PredictionWriter(folder.predictions(1)):
        row = run(tiny_model, "--rows", "open", "--processes", "2")["pets", "open"]
    assert row["accuracy"]["n"] == 8
    assert re.fullmatch(r"7 missing; .*predictions-00001.jsonl is being written by another process.*", row["note"])
    row = run(tiny_model, "--rows", "open")["pets", "open"]
    assert (row["accuracy"]["n"], row["note"], folder.refusals()) == (15, "", {})


def test_a_refusal_of_a_worker_does_not_hide_the_answers_that_came_later(world, tiny_model):
    run(tiny_model, "--rows", "open")
    (folder,) = map(EvalDir, Path("runs/eval/paper_pets_open").glob("*/"))
    folder.refusal(3).write_text("the device has not enough memory\n")
    row = run(tiny_model, "--rows", "open", "--report-only")["pets", "open"]
    assert (row["accuracy"]["n"], row["note"]) == (15, "")
    folder.predictions(0).write_text("")
    row = run(tiny_model, "--rows", "open", "--report-only")["pets", "open"]
    assert row["reason"] == "the device has not enough memory"


def test_answers_of_weights_that_were_replaced_since_are_not_reported(world, tiny_model):
    model = shutil.copytree(tiny_model, world / "model")
    assert run(model, "--rows", "scores_mean")["pets", "scores_mean"]["accuracy"]["n"] == 15
    (changed,) = write_random_base(world / "changed", "tiny", seed=1).glob("*.safetensors")
    shutil.copy(changed, model)
    for more in (["--report-only"], []):
        rows = run(model, "--rows", "scores_mean", *more)
        assert all("holds answers of other weights: model was" in row["reason"] for row in rows.values())


@pytest.fixture
def snapshot(world, tiny_model, monkeypatch):
    """The folder that the hub id `owner/tiny` stands for."""
    folder = shutil.copytree(tiny_model, world / "snapshot")
    monkeypatch.setattr("eval.models.factory.model_folders", lambda *_: [("model", folder)])
    return folder


def test_a_hub_id_whose_weights_or_items_changed_is_not_reported(world, snapshot):
    run("owner/tiny", "--rows", "open")
    file = world / "pets.yaml"
    shards = Path(next(line for line in file.read_text().splitlines() if "shards:" in line).split(": ")[1])
    built = shutil.copytree(shards, world / "shards")
    manifest = json.loads((built / "pets" / "manifest.json").read_text())
    manifest["fingerprint"] = "0" * 64
    (built / "pets" / "manifest.json").write_text(json.dumps(manifest))
    rows = run("owner/tiny", "--rows", "open", "--report-only", "--set", f"data.shards={built}")
    assert "data was" in rows["pets", "open"]["reason"]
    (changed,) = write_random_base(world / "changed", "tiny", seed=1).glob("*.safetensors")
    shutil.copy(changed, snapshot)
    for more in (["--report-only"], []):
        rows = run("owner/tiny", "--rows", "open", *more)
        assert "holds answers of other weights: model was" in rows["pets", "open"]["reason"]


def test_what_the_table_says_is_not_run_is_not_on_the_scoreboard(world, tiny_model):
    model = shutil.copytree(tiny_model, world / "model")
    rows = ["--rows", "scores", "scores_mean", "guidance", "probe"]
    run(model, *rows)
    results = ResultsDir(Path("runs")).results()
    assert len(results) == 4
    (changed,) = write_random_base(world / "changed", "tiny", seed=1).glob("*.safetensors")
    shutil.copy(changed, model)
    assert all(row["reason"] for row in run(model, *rows, "--report-only").values())
    board = json.loads(Path("runs/scoreboard.json").read_text())
    assert not board["others"]
    assert not any(row["ours"] for row in board["rows"])
    assert all(file.with_name(f"{file.name}.outdated").is_file() for file in results)
    assert list(Path("runs").rglob("predictions-*.jsonl"))


def test_answers_of_a_model_that_pads_right_are_reported_for_their_own_batches_alone(world, families):
    def row(*arguments: str) -> dict:
        settings = ["--set", "protocol.system_prompt=none", "--set", "protocol.max_new_tokens=4"]
        model = ["--model", str(families["blip-2"]), "--datasets", "pets.yaml", "--protocol", "official"]
        main([*model, "--rows", "open", *settings, *arguments])
        (record,) = Path("runs/eval").glob("reproduction-official-*.json")
        (found,) = json.loads(record.read_text())["rows"]
        return found

    for more in ([], ["--report-only"]):
        found = row("--limit", "9", *more)
        assert (found["reason"], found["accuracy"]["n"]) == (None, 9)
    for more in (["--limit", "8"], ["--limit", "9", "--set", "batch_size=3"]):
        assert "and is now" in row(*more, "--report-only")["reason"]


def test_rows_do_not_share_a_folder_and_the_scoreboards_folder_is_made_before_the_work(
    world, tiny_model, capsys, monkeypatch
):
    with pytest.raises(SystemExit):
        run(tiny_model, "--set", f"output={world / 'x'}")
    assert "--output" in capsys.readouterr().err
    (world / "file").write_text("")
    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr("eval.reproduce.ask", None)
        run(tiny_model, "--output", "file/board")
    assert "cannot make the folder file/board" in capsys.readouterr().err
    run(tiny_model, "--rows", "open", "--output", "new/board")
    assert Path("new/board/scoreboard.html").is_file()


def test_the_dry_run_counts_what_is_left_and_loads_no_model(world, tiny_model, capsys):
    run(tiny_model, "--rows", "open")
    capsys.readouterr()
    main(["--model", str(tiny_model), "--datasets", "pets.yaml", "imagenet", "--dry-run"])
    text = capsys.readouterr().out
    lines = {tuple(line.split()[:2]): line for line in text.splitlines()}
    assert " 15 " in lines["pets", "open"]
    assert " 0  answers" in lines["pets", "open"]
    assert "from the answers of scores, no forward" in lines["pets", "scores_mean"]
    assert "not run: it has no separate image encoder" in lines["pets", "linear"]
    assert "does not exist; build it" in lines["imagenet", "open"]
    main(["--model", str(tiny_model), "--datasets", "pets.yaml", "--rows", "open", "--dry-run", "--json"])
    (planned,) = json.loads(capsys.readouterr().out)["plans"][0]
    assert (planned["row"], planned["questions"], planned["to_ask"]) == ("open", 15, 0)
    main(["--model", str(tiny_model), "--datasets", "pets.yaml", "--rows", "open", "--report-only", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["models"][0]["rows"][0]["accuracy"]["n"] == 15 and found["forgetting"] is None
    assert not Path("runs/eval/paper_pets_closed").exists()


def test_a_head_on_the_image_encoder_is_planned_for_models_that_have_one_by_itself(world, families):
    for model, able in ((families["blip-2"], True), (families["instructblip"], False), ("openai/clip-vit", True),
                        ("llava-hf/llava-1.5-7b-hf", False), ("Salesforce/blip2-opt-2.7b", True)):  # fmt: skip
        request = Request(model=str(model), rows=("linear",))
        (row,) = plan([open_dataset("pets.yaml", request)], request)
        assert (row.reason is None) == able, model


def test_a_question_too_long_for_the_model_is_a_reason_not_an_end(world, tiny_model):
    names = world / "names.txt"
    names.write_text("\n".join(["tench", "wild dog", "cat", *(f"red {number}" for number in range(4000))]))
    rows = run(tiny_model, "--rows", "open", "closed", "--set", f"protocol.classes={names}")
    assert "exceed the model's" in rows["pets", "closed"]["reason"]
    assert rows["pets", "open"]["accuracy"]["n"] == 15


def test_without_the_counted_shards_only_the_frequency_is_missing(world, tiny_model):
    file = world / "pets.yaml"
    file.write_text(file.read_text().replace("frequency_sources: [pets]", "frequency_sources: [quiz]"))
    (world / "gone.yaml").write_text(file.read_text() + "\n")
    shards = Path(next(line for line in file.read_text().splitlines() if "shards:" in line).split(": ")[1])
    copy = shutil.copytree(shards, world / "shards")
    shutil.rmtree(copy / "quiz")
    rows = run(tiny_model, "--rows", "open", "frequency", "--datasets", "gone.yaml", "--set", f"data.shards={copy}")
    assert "no shard set" in rows["pets", "frequency"]["reason"]
    assert rows["pets", "open"]["accuracy"]["n"] == 15


def test_a_protocols_own_wording_is_that_of_the_open_question_and_of_its_views(world, tiny_model):
    for protocol, wording in (("paper", "paper"), ("official_finetuned", "authors_training")):
        request = Request(str(tiny_model), protocol)
        rows = {row.row.key: row.config.protocol for row in plan([open_dataset("pets.yaml", request)], request)}
        assert (rows["open"].prompt, rows["identify"].prompt) == (wording, "identify")
        assert rows["closed"].prompt == ("paper" if protocol == "paper" else wording)


def test_a_clip_and_an_api_cannot_do_some_rows_and_the_error_names_them(world):
    def reasons(model: str) -> dict[str, str | None]:
        request = Request(model)
        return {row.row.key: row.reason for row in plan([open_dataset("pets.yaml", request)], request)}

    clip, api = reasons("openai/clip-vit-large-patch14-336"), reasons("api:gpt-4-turbo-2024-04-09")
    assert clip["zero_shot"] is clip["linear"] is None
    assert "does not generate text" in clip["open"]
    assert api["open"] is api["closed"] is None
    assert "API" in api["scores"]
    assert "API" in api["probe"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--datasets", "nowhere"], "no data set 'nowhere'"),
        (["--datasets", "pets.yaml", "--rows", "opem"], "no row 'opem'"),
        (["--datasets", "pets.yaml", "--workers", "3"], "needs --worker"),
        (["--datasets", "pets.yaml", "--checkpoint", "all"], "names several models"),
    ],
)
def test_a_mistake_ends_with_one_line(world, tiny_model, capsys, arguments, message):
    with pytest.raises(SystemExit) as left:
        main(["--model", str(tiny_model), *arguments])
    assert left.value.code == 2
    assert message in capsys.readouterr().err


def test_every_shipped_data_set_is_an_evaluation(monkeypatch):
    monkeypatch.chdir(Path(__file__).resolve().parents[3])
    request = Request("llava-hf/llava-1.5-7b-hf")
    for name in dataset_names():
        dataset = open_dataset(name, request)
        assert dataset.config.paper_row is None
        assert plan([dataset], request)


def test_a_checkpoint_is_recognised_by_its_own_answers(world, tiny_model, monkeypatch, capsys):
    """Those of the export, asked before, lie beside them."""
    trained = RunDir(world / "runs" / "x")
    shutil.copytree(tiny_model, trained.export)
    other = write_random_base(trained.export_of(5), "tiny", ["tench", "photo"], seed=1)
    state = CheckpointDir(trained.checkpoint(5)).state
    state.parent.mkdir(parents=True)
    state.write_text("{}")
    places = {"export": ("export", trained.export), "5": ("step-00000005", other)}
    monkeypatch.setattr("eval.models.factory.model_folders", lambda _, checkpoint, __: [places[checkpoint]])
    sources = "data: {sources: {a: {reader: image_folder, path: a}}}\ntrain: {sources: [a]}"
    trained.config.write_text(f"name: x\nmodel: {{base: b}}\n{sources}\n")
    arguments = ["--model", str(trained.root), "--datasets", "pets.yaml", "--rows", "open", "scores_2"]
    arguments += ["--set", "protocol.max_new_tokens=4"]

    def folders(*more: str) -> list[str]:
        main([*arguments, *more])
        record = trained.root / "eval" / f"reproduction-paper{'-5' if more else ''}.json"
        return [row["folder"] for row in json.loads(record.read_text())["rows"] if row["accuracy"]]

    export = folders()
    assert len(export) == 3
    capsys.readouterr()
    main([*arguments, "--checkpoint", "5", "--dry-run"])
    assert " 15       15 " in capsys.readouterr().out  # nothing of it is answered yet
    assert folders("--checkpoint", "5") == [folder.replace("/export", "/step-00000005") for folder in export]
    assert folders() == export
    heads = re.findall(r"^[|] row [|](.*)", Path("runs/scoreboard.md").read_text(), re.MULTILINE)
    assert " x step 5 | x |" in heads
    main([*arguments, "--checkpoint", "5", "--dry-run"])
    assert " 15        0 " in capsys.readouterr().out


def test_the_record_of_a_checkpoints_own_folder_is_that_of_the_checkpoint(world):
    run = RunDir(world / "runs" / "x")
    run.checkpoint(5).mkdir(parents=True)
    run.export.mkdir()
    sources = "data: {sources: {pets: {reader: image_folder}}}\ntrain: {sources: [pets]}\n"
    run.config.write_text(f"name: x\nmodel: {{base: none}}\n{sources}")
    models = [(run.root, "export"), (run.root, "5"), (run.checkpoint(5), "export"), (run.export, "export")]
    configs = [open_dataset("pets.yaml", Request(model=str(m), checkpoint=c)).config for m, c in models]
    files = [write_record(config, "paper", []) for config in configs]
    assert [file.name for file in files] == [f"reproduction-paper{more}.json" for more in ("", "-5", "-5", "")]
    told = [json.loads(file.read_text()) for file in files]
    assert [(record["model"], record["checkpoint"]) for record in told] == [
        (str(run.root), checkpoint) for checkpoint in ("export", "5", "5", "export")
    ]


def test_a_damaged_record_is_named_after_the_table_is_reported(world, tiny_model, capsys):
    run(tiny_model, "--rows", "open")
    (record,) = Path("runs/eval").glob("reproduction-paper-*.json")
    for content in ("", "[]"):
        record.write_text(content)
        capsys.readouterr()
        with pytest.raises(SystemExit):
            run(tiny_model, "--rows", "open", "--report-only")
        told = capsys.readouterr()
        assert "1 of 1 rows have a result" in told.out
        assert f"{record} is damaged" in told.err


def test_two_calls_that_end_together_keep_each_others_rows(world):
    config = open_dataset("pets.yaml", Request(model="none")).config
    outcomes = [Outcome(f"set{number}", "open", "title", "Table 1", reason="none") for number in range(40)]
    with ThreadPoolExecutor(8) as calls:
        files = set(calls.map(lambda outcome: write_record(config, "paper", [outcome]), outcomes))
    (file,) = files
    assert {row["dataset"] for row in json.loads(file.read_text())["rows"]} == {outcome.dataset for outcome in outcomes}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "protocol"), [("qwen3_vl", "paper"), ("qwen3_vl", "official"), ("smolvlm", "official")]
)
def test_models_that_the_paper_lacks_have_results_where_llava_has(world, families, name, protocol):
    arguments = [
        "--model",
        str(families[name]),
        "--datasets",
        "pets.yaml",
        "--protocol",
        protocol,
        "--limit",
        "4",
    ]
    main([*arguments, "--set", "protocol.max_new_tokens=4", "--rows", "open", "closed_cot", "scores", "probe"])
    (record,) = Path("runs/eval").glob(f"reproduction-{protocol}-*.json")
    rows = json.loads(record.read_text())["rows"]
    assert {row["row"]: (row["reason"], row["accuracy"]["n"]) for row in rows} == dict.fromkeys(
        ("open", "closed_cot", "scores", "probe"), (None, 4)
    )
