"""Several models side by side, and where their evaluations lie."""

import json
import re
import shutil
from pathlib import Path

import pytest

from configs.data import DataConfig, SourceConfig
from configs.errors import RunError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.run_dir import RunDir
from eval.compare import main
from eval.metrics.accuracy import Rate
from eval.reports.class_halves import class_half, half_values
from eval.reports.comparison import comparison, read_reports
from eval.run import main as evaluate
from eval.runner.output_paths import output_paths_of


def fake_report(name: str, right: int, *, task: str = "open_world", protocol: str = "p", label: str = "export") -> dict:
    classes = [
        {"label": i, "name": f"c{i}", "correct": min(10, right // 10 + i), "wrong": 10 - min(10, right // 10 + i),
         "no_answer": 0, "frequency": 10**i}
        for i in range(3)
    ]  # fmt: skip
    part = {"name": "rarest third", "mean_accuracy": 0.5, "rate": Rate(5, 10).to_json()}
    frequency = {"spearman": 0.5, "pearson": None, "thirds": [part], "log_bins": []}
    return {
        "name": name,
        "label": label,
        "items": {"missing": 0},
        "accuracy": Rate(right, 100).to_json(),
        "no_answer": Rate(0, 100).to_json(),
        "protocol": {"task": task, "hash": protocol, "data": "d" * 64},
        "frequency": frequency if task == "open_world" else None,
        "classes": classes,
    }


def put(folder: Path, report: dict) -> None:
    folder.mkdir(parents=True)
    EvalDir(folder).report("json").write_text(json.dumps(report))


@pytest.fixture
def models(tmp_path):
    for model, right, knowledge in (("base", 20, 38), ("mix", 84, 50)):
        put(tmp_path / model / "a_quiz" / "export", fake_report("a_quiz", knowledge, task="multiple_choice"))
        put(tmp_path / model / "open", fake_report("open", right))
    return [f"{model}={tmp_path / model}" for model in ("base", "mix")]


def test_the_table_has_a_row_a_model_and_classification_first(models, tmp_path, capsys):
    main(["--output", str(tmp_path / "table"), *models])
    text = EvalDir(tmp_path / "table").report("md").read_text()
    assert "| model | open | vs base | a_quiz | vs base |" in text
    assert "| base | 20.0 % (13.3 to 28.9 %, n = 100) |  | 38.0 %" in text
    assert "| mix | 84.0 % (75.6 to 89.9 %, n = 100) | +64.0 | 50.0 %" in text
    assert text in capsys.readouterr().out
    values = json.loads(EvalDir(tmp_path / "table").report("json").read_text())
    assert values["evaluations"] == ["open", "a_quiz"]
    assert values["models"]["mix"]["a_quiz"]["difference"] == pytest.approx(0.12)


def test_the_folder_of_one_evaluation_or_of_its_checkpoint_is_taken_too(models, tmp_path):
    for own in (tmp_path / "base" / "open", tmp_path / "base" / "a_quiz", tmp_path / "base" / "a_quiz" / "export"):
        (report,) = read_reports(own).values()
        assert report["name"] == ("open" if own.name == "open" else "a_quiz")


def test_the_checkpoints_of_one_evaluation_count_once_and_equal_names_are_refused(tmp_path):
    for label, right in (("export", 50), ("step-00000004", 30)):
        put(tmp_path / "run" / "open" / label, fake_report("open", right, label=label))
    assert read_reports(tmp_path / "run" / "open")["open"]["accuracy"]["count"] == 50
    for folder in ("x", "y", "z"):
        put(tmp_path / "many" / folder, fake_report("other" if folder == "z" else "open", 10))
    with pytest.raises(RunError, match=r"two reports in .* are called 'open'"):
        read_reports(tmp_path / "many")


@pytest.mark.slow
def test_a_difference_on_the_same_items_has_the_paired_interval_and_p_value(write_config, tmp_path, capsys):
    right = {"base": 3, "mix": 12}
    for model, count in right.items():
        output = tmp_path / model / "open"
        evaluate(["--config", str(write_config(output=str(output), name="open"))])
        file = EvalDir(output).predictions(0)
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        told = [line | {"answer": line["target"] if number < count else "moss"} for number, line in enumerate(lines)]
        file.write_text("".join(f"{json.dumps(line)}\n" for line in told))
        evaluate(["--config", str(write_config(output=str(output), name="open")), "--report-only"])
    capsys.readouterr()
    main(["--output", str(tmp_path / "table"), *(f"{model}={tmp_path / model}" for model in right)])
    assert "| 80.0 % (54.8 to 93.0 %, n = 15) | +60.0 (+26.6 to +79.3, p = 0.0039) |" in capsys.readouterr().out
    values = json.loads(EvalDir(tmp_path / "table").report("json").read_text())["models"]
    assert values["base"]["open"]["paired"] is values["base"]["open"]["difference"] is None
    paired = values["mix"]["open"]["paired"]
    assert (paired["first_only"], paired["second_only"], paired["items"]) == (0, 9, 15)


def test_the_page_leads_to_the_report_of_each_model(models, tmp_path):
    report = EvalDir(tmp_path / "mix" / "a_quiz" / "export").report("html")
    report.touch()
    main(["--output", str(tmp_path / "a table"), *models])
    page = EvalDir(tmp_path / "a table").report("html")
    links = re.findall('href="([^"#]+)"', page.read_text())
    assert [(page.parent / link).resolve() for link in links] == [report]  # of reports that have a page


def test_the_page_draws_all_models_into_one_figure(models, tmp_path):
    main(["--output", str(tmp_path / "table"), *models])
    page = EvalDir(tmp_path / "table").report("html").read_text()
    assert page.count("<svg") == 1
    assert ">base</text>" in page
    assert ">mix</text>" in page


def test_many_evaluations_stand_below_each_other(models, tmp_path):
    put(tmp_path / "mix" / "third", fake_report("third", 30))
    main(["--output", str(tmp_path / "table"), *models])
    text = EvalDir(tmp_path / "table").report("md").read_text()
    assert "| evaluation | model | accuracy | vs base |" in text
    assert "| open | mix | 84.0 % (75.6 to 89.9 %, n = 100) | +64.0 |" in text
    assert "| third | base | not run |  |" in text


@pytest.fixture
def seeds(tmp_path):
    names = {"base": (20, 40), "mix@1": (80, 50), "mix@2": (84, 56)}
    for model, (right, knowledge) in names.items():
        put(tmp_path / model / "a_quiz" / "export", fake_report("a_quiz", knowledge, task="multiple_choice"))
        put(tmp_path / model / "open", fake_report("open", right))
    return [f"{model}={tmp_path / model}" for model in names]


def test_runs_of_one_recipe_begin_with_mean_and_spread_over_their_seeds(seeds, tmp_path, capsys):
    main(["--output", str(tmp_path / "table"), *seeds])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| model | seeds | open | vs base | a_quiz | vs base |"
    assert lines[4] == "| base |  | 20.0 % |  | 40.0 % |  |"
    assert lines[5] == "| mix | 2 | 82.0 ± 2.8 % | +62.0 ± 2.8 | 53.0 ± 4.2 % | +13.0 ± 4.2 |"
    assert any(line.startswith("| mix, seed 2 | 84.0 % (75.6 to 89.9 %, n = 100) | +64.0 | 56.0 %") for line in lines)
    assert "| mix | 2 | 50.0 ± 0.0 % | 0.50 ± 0.00 | n/a |" in lines
    mix = json.loads(EvalDir(tmp_path / "table").report("json").read_text())["recipes"]["mix"]
    assert mix["a_quiz"]["runs"] == ["mix@1", "mix@2"]
    assert mix["a_quiz"]["difference"]["values"] == pytest.approx([0.10, 0.16])
    assert mix["a_quiz"]["difference"]["mean"] == pytest.approx(0.13)


def test_the_figure_draws_a_recipe_with_all_its_seeds_as_one(seeds, tmp_path):
    main(["--output", str(tmp_path / "table"), *seeds])
    page = EvalDir(tmp_path / "table").report("html").read_text()
    assert ">mix</text>" in page and "mix@" not in page and ">mix, seed 1</td>" in page
    assert "All seeds of a model together." in page


def test_an_evaluation_that_one_seed_lacks_has_no_mean(seeds, tmp_path, capsys):
    shutil.rmtree(tmp_path / "mix@2" / "a_quiz")
    main(["--output", str(tmp_path / "table"), *seeds])
    assert "| mix | 2 | 82.0 ± 2.8 % | +62.0 ± 2.8 | 1 of 2 seeds |  |" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "mix@1" / "a_quiz")
    put(tmp_path / "mix@1" / "third", fake_report("third", 50))
    shutil.rmtree(tmp_path / "mix@1" / "open")
    main(["--output", str(tmp_path / "table"), *seeds])
    assert "| mix | 2 | 1 of 2 seeds |  | 1 of 2 seeds |  | not run |  |" in capsys.readouterr().out


def test_runs_that_were_trained_otherwise_or_have_the_same_weights_are_no_seeds(tmp_path, capsys):
    names = []
    for run, sources, weights in (
        ("mix@1", ["a"], "x"),
        ("mix@2", ["a", "b"], "y"),
        ("one@1", [], "z"),
        ("one@2", [], "z"),
    ):
        trained = {"base": "hub/llava", "mode": "full" if sources else None, "sources": sources, "lora_onto": None}
        report = fake_report("open", 50) | {"evaluated_model": trained}
        put(tmp_path / run / "open", report | {"protocol": report["protocol"] | {"model": weights}})
        names.append(f"{run}={tmp_path / run}")
    main(["--output", str(tmp_path / "table"), *names])
    said = capsys.readouterr().out
    assert (
        "mix: these runs are not seeds of one recipe, their trainings differ (mix, seed 1: hub/llava, full on a;"
        in said
    )
    assert "mix, seed 2: hub/llava, full on a + b)" in said
    assert "one: several of its runs have the same weights" in said
    assert "mix: several" not in said and "one: these" not in said


def test_the_folder_of_a_run_is_that_of_its_evaluations_and_every_folder_without_reports_is_named(tmp_path, capsys):
    put(tmp_path / "run" / "eval" / "open" / "export", fake_report("open", 50))
    (tmp_path / "run" / "checkpoints").mkdir()
    assert list(read_reports(tmp_path / "run")) == ["open"]
    (tmp_path / "empty" / "eval").mkdir(parents=True)
    with pytest.raises(SystemExit):
        main(["--output", str(tmp_path / "t"), f"a={tmp_path / 'run'}", f"b={tmp_path / 'empty'}", "c=/nowhere"])
    said = capsys.readouterr().err
    assert f"{tmp_path / 'empty' / 'eval'} holds no evaluation with a report.json" in said
    assert "no folder /nowhere" in said


def test_an_evaluation_that_was_not_run_is_said_to_be(models, tmp_path):
    put(tmp_path / "other" / "open", fake_report("open", 30))
    main(["--output", str(tmp_path / "table"), *models, f"other={tmp_path / 'other'}"])
    assert "| other | 30.0 % (21.9 to 39.6 %, n = 100) | +10.0 | not run |  |" in (
        EvalDir(tmp_path / "table").report("md").read_text()
    )


def test_numbers_of_different_protocols_are_not_compared_in_silence(models, tmp_path):
    put(tmp_path / "other" / "open", fake_report("open", 30, protocol="q"))
    main(["--output", str(tmp_path / "table"), *models, f"other={tmp_path / 'other'}"])
    text = EvalDir(tmp_path / "table").report("md").read_text()
    assert "**open: the models were evaluated with different protocols (base p, mix p, other q).**" in text


def test_a_comparison_repeats_what_is_doubtful_in_its_reports_and_has_a_row_without_a_model(models, tmp_path):
    most = {"name": "Dogs", "value": 0.9, "low": 0.8, "high": 1.0, "count": 9, "n": 10}
    doubtful = {"most_frequent": most, "data_notes": ["4 of 61 images of test are also in the training source train"]}
    for name in ("a", "b"):
        put(tmp_path / name / "open", fake_report("open", 3) | doubtful)
    main(["--output", str(tmp_path / "out"), f"a={tmp_path / 'a'}", f"b={tmp_path / 'b'}"])
    page = (tmp_path / "out" / "report.md").read_text()
    assert "| always the most frequent | 90.0 % (Dogs, n = 10) |  |" in page
    assert page.count("open: data: 4 of 61 images of test are also in the training source train.") == 1
    assert "open, b: 3.0 % correct is below the 90.0 % of always answering 'Dogs'." in page
    assert json.loads((tmp_path / "out" / "report.json").read_text())["most_frequent"] == {"open": most}
    put(tmp_path / "c" / "open", fake_report("open", 3) | {"most_frequent": most | {"n": 11}})
    main(["--output", str(tmp_path / "out"), f"a={tmp_path / 'a'}", f"b={tmp_path / 'c'}"])
    assert "always the most frequent" not in (tmp_path / "out" / "report.md").read_text(), "of other items"


def test_of_several_checkpoints_the_export_counts_else_the_best(tmp_path):
    for label, right in (("step-00000001", 10), ("step-00000002", 20)):
        put(tmp_path / "open" / label, fake_report("open", right, label=label))
    with pytest.raises(RunError, match=r"step-00000001, step-00000002, and no summary\.json"):
        read_reports(tmp_path)
    (tmp_path / "open" / "summary.json").write_text(json.dumps({"best": "step-00000002"}))
    assert read_reports(tmp_path)["open"]["label"] == "step-00000002"
    put(tmp_path / "open" / "export", fake_report("open", 15))
    assert read_reports(tmp_path)["open"]["label"] == "export"


def test_the_difference_needs_the_first_model_to_have_the_evaluation():
    values = comparison({"base": {}, "mix": {"open": fake_report("open", 30)}})
    assert values["models"]["mix"]["open"]["difference"] is None


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["base"], "not of the form NAME=EVALDIR"),
        (["a=/nowhere/at/all"], "no folder"),
        (["a={empty}"], "no evaluation"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, capsys, models, message):
    (tmp_path / "empty").mkdir()
    texts = [text.format(empty=tmp_path / "empty") for text in models]
    with pytest.raises(SystemExit) as left:
        main(["--output", str(tmp_path / "table"), *texts])
    assert left.value.code == 2
    assert message in capsys.readouterr().err.replace("holds no evaluation", "no evaluation")


def config(model: str, output: str | None = None) -> EvalConfig:
    sources = {"s": SourceConfig(reader="toy")}
    return EvalConfig(name="open", model=model, source="s", data=DataConfig(sources=sources), output=output)


def test_answers_lie_in_the_run_they_belong_to(tmp_path):
    run = RunDir(tmp_path / "run")
    for folder in (run.checkpoint(5), run.export):
        folder.mkdir(parents=True)
    run.config.write_text("")
    home = run.root / "eval" / "open"
    assert output_paths_of(config(str(run.root))).folder("export", run.export).root == home / "export"
    assert output_paths_of(config(str(run.export))).folder("model", run.export).root == home / "export"
    assert (
        output_paths_of(config(str(run.checkpoint(5)))).folder("step-00000005", run.export_of(5)).root
        == home / "step-00000005"
    )
    assert output_paths_of(config(str(run.root), "out")).folder("export", run.export).root == Path("out/export")


def test_answers_of_any_other_model_lie_under_a_separate_name(tmp_path):
    models = [tmp_path / "a" / "export", tmp_path / "b" / "export"]
    for model in models:
        model.mkdir(parents=True)
    places = [output_paths_of(config(str(model))).folder("model", model).root for model in models]
    assert places[0] != places[1]
    assert all(place.parent == Path("runs/eval/open") and place.name.startswith("export-") for place in places)
    hub = [
        output_paths_of(config(f"{owner}/llava")).folder("model", Path("snapshot/ab12")).root
        for owner in ("hub", "mine")
    ]
    assert hub == [Path("runs/eval/open/hub--llava"), Path("runs/eval/open/mine--llava")]
    assert output_paths_of(config(str(models[0]), "out")).folder("model", models[0]).root == Path("out")


def half_report(name: str, right: int, part: str, **changes) -> dict:
    options = {"split": "test", "class_part": part, "prompt": name} | changes
    source = SourceConfig(reader="dtd", path="data/dtd", options=options)
    report = fake_report(name, right)
    report["protocol"] |= {"classes": f"shards/{name}", "hash": name}
    return report | {"class_half": class_half(source, report["protocol"])}


def test_base_and_new_classes_have_a_harmonic_mean_of_their_own_pair(tmp_path, capsys):
    put(tmp_path / "mix" / "a", half_report("dtd_base", 80, "base"))
    put(tmp_path / "mix" / "b", half_report("dtd_new", 40, "new"))
    put(tmp_path / "mix" / "c", half_report("drawn_base", 90, "base", class_seed=1))
    put(tmp_path / "mix" / "d", fake_report("open", 50))
    main(["--output", str(tmp_path / "table"), f"mix={tmp_path / 'mix'}"])
    text = capsys.readouterr().out
    assert (
        "| mix | dtd_base, dtd_new | 80.0 % (71.1 to 86.7 %, n = 100) | 40.0 % (30.9 to 49.8 %, n = 100) | 53.3 %"
        in text
    )
    assert "| mix | drawn_base | 90.0 % (82.6 to 94.5 %, n = 100) | not run | n/a (new not run) |" in text
    rows = json.loads(EvalDir(tmp_path / "table").report("json").read_text())["halves"]
    assert [row["harmonic_mean"] for row in rows] == [pytest.approx(2 * 0.8 * 0.4 / 1.2), None]


def test_halves_that_are_incomplete_or_were_evaluated_twice_have_no_harmonic_mean():
    reports = {name: half_report(name, 80, part) for name, part in (("a", "base"), ("b", "new"), ("c", "new"))}
    (row,) = half_values({"mix": reports})
    assert (row["harmonic_mean"], row["missing"]) == (None, ["new evaluated as b, c"])
    del reports["c"]
    reports["a"]["items"]["missing"] = 3
    assert half_values({"mix": reports})[0]["missing"] == ["a incomplete"]


def test_no_half_no_table(models, tmp_path, capsys):
    main(["--output", str(tmp_path / "table"), *models])
    assert "harmonic" not in capsys.readouterr().out
    assert class_half(SourceConfig(reader="dtd", options={"split": "test"}), {}) is None
