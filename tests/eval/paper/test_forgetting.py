"""The forgetting table from stored answers of two models: no model runs."""

import json
from dataclasses import replace

import pytest

from configs.errors import ConfigError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.load import load_config
from data_prep import build
from eval.demo_judge import judged
from eval.metrics.f1_difference import f1_difference
from eval.metrics.grouped import ItemPoints, compare_points, sign_flips
from eval.paper.execute import Outcome, finish
from eval.paper.experiments import GENERAL
from eval.paper.forgetting import GROUPS, Evaluated, forgetting, forgetting_page, write_forgetting
from eval.paper.plan import Planned, Request, dataset_names, open_dataset, plan
from eval.reproduce import main
from eval.runner.batching import open_source
from eval.runner.evaluation_record import describe_evaluation, write_evaluation
from eval.runner.predictions import PredictionWriter
from eval.types import Prediction, Score
from tests.eval.stored_answers import stored_answer

PARTS = {"short_answer": "vqa", "existence_popular": "yes_no", "open_answer": "graded"}


def answered(name: str, target: str, said: str, group: str) -> tuple[Prediction, Score]:
    return stored_answer(name, said, target, label_name=None, group=group), Score(said == target, said, "")


def test_the_difference_of_f1_scores_is_that_of_the_questions_of_both():
    first = [answered(str(n), "yes" if n % 2 else "no", "yes", str(n // 2)) for n in range(20)]
    second = [answered(str(n), "yes" if n % 2 else "no", "yes" if n % 2 else "no", str(n // 2)) for n in range(24)]
    found = f1_difference(first, second)
    assert found["difference"] == pytest.approx(1 - 2 / 3)  # always yes: precision 1/2, recall 1
    assert (found["items"], found["groups"], found["left_out"]) == (20, 10, 4)
    assert found["low"] <= found["difference"] <= found["high"]


def test_two_models_that_never_differ_have_an_interval_of_some_width():
    same = {str(n): ItemPoints(0.3, str(n // 2)) for n in range(192)}
    found = compare_points(same, same)
    assert (found["difference"], found["p_value"]) == (0.0, 1.0)
    assert found["high"] == -found["low"] == pytest.approx(0.0385, abs=1e-3)  # Wilson's upper limit of 0 of 96 images
    answers = [answered(str(n), "yes" if n % 2 else "no", "yes", str(n // 2)) for n in range(192)]
    assert f1_difference(answers, answers)["high"] == found["high"]


def test_points_are_compared_by_images_and_right_or_wrong_by_mcnemar():
    plain = compare_points({"a": ItemPoints(1.0), "b": ItemPoints(0.0)}, {"a": ItemPoints(1.0), "b": ItemPoints(1.0)})
    assert "groups" not in plain and plain["difference"] == 0.5
    first = {str(n): ItemPoints(0.3, str(n // 2)) for n in range(12)}
    second = {str(n): ItemPoints(0.9, str(n // 2)) for n in range(12)}
    found = compare_points(first, second)
    assert (found["difference"], found["groups"], found["second_only"]) == (pytest.approx(0.6), 6, 12)
    assert found["p_value"] == 2 / 2**6  # all six images the same way


def test_many_images_are_flipped_at_random_and_few_exactly():
    import numpy as np

    assert sign_flips(np.array([1.0, -1.0])) == 1.0
    assert sign_flips(np.ones(20)) == pytest.approx(1 / 10_001)
    assert sign_flips(np.zeros(3)) == 1.0


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A tiny set of each form, of the demo world."""
    root = tmp_path_factory.mktemp("demo")
    sources = "".join(
        f"    {part}: {{reader: toy_world, options: {{part: {part}, images_per_class: 1}}}}\n" for part in PARTS
    )
    section = f"data:\n  samples_per_shard: 500\n  shards: {root / 'shards'}\n  sources:\n{sources}"
    (root / "build.yaml").write_text(f"name: build\nmodel: none/none\nsource: short_answer\n{section}")
    build.main(["--config", str(root / "build.yaml")])
    return section


def evaluated(folder, section, part, right: int) -> Evaluated:
    """A row whose first `right` answers are the stored ones and whose others are 'red'."""
    task = PARTS[part]
    file = folder / f"{part}.yaml"
    out = folder / part
    file.write_text(f"name: {part}\nmodel: llava-hf/llava-1.5-7b-hf\nsource: {part}\noutput: {out}\n{section}"
                    f"protocol: {{task: {task}}}\ngrading: {{judge: 'api:judge', repeats: 1}}\n")  # fmt: skip
    config = load_config(EvalConfig, file)[0]
    source, place = open_source(config), EvalDir(out)
    total = len(source.index)
    write_evaluation(place, replace(describe_evaluation(config, "model", "a" * 64, source.fingerprint, (total, total)),
                                    answer_delimiter=""))  # fmt: skip
    from eval.tasks.registry import make_task

    ask = make_task(config.protocol)
    with PredictionWriter(place.predictions(0)) as writer:
        for number in range(total):
            sample = source.sample(number)
            question = ask.question(sample)
            answer = question.target if number < right else "red"
            more = {"label": None, "label_name": None, "references": question.references, "group": question.group}
            writer.write([stored_answer(sample.id, answer, question.target, **more)])
    planned = Planned(part, GENERAL[task], config, total)
    return Evaluated(planned, Outcome(part, task, "", "Table 13", folder=str(out)))


def reported(one: Evaluated) -> Evaluated:
    from eval.reports.evaluation import write_report

    write_report(one.folder, one.planned.config)
    return one


@pytest.mark.slow
def test_both_models_are_side_by_side_with_the_difference_over_the_same_questions(
    shards, tmp_path, chat_api, monkeypatch
):
    from chat_api_server import completion

    from eval.grade import main as grade

    chat_api(lambda request: completion(judged(request["messages"][-1]["content"])))
    pairs = []
    for part in PARTS:
        both = []
        for name, right in (("base", 24), ("tuned", 48)):
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            both.append(evaluated(folder, shards, part, right))
            if part == "open_answer":
                grade(["--config", str(folder / f"{part}.yaml"), "--grader", "mm_vet"])
        pairs.append(tuple(map(reported, both)))
    found = forgetting(("the base", "runs/mix"), pairs)
    rows = {row["dataset"]: row for row in found["rows"]}
    assert [row["measure"] for row in found["rows"]] == ["VQA accuracy", "F1 score", "mean grade"]
    assert all(row["reason"] is None for row in found["rows"]), rows
    assert rows["short_answer"]["finetuned"]["value"] == 1.0
    for row in found["rows"]:
        gap = row["difference"]
        assert gap["difference"] == pytest.approx(row["finetuned"]["value"] - row["base"]["value"])
        assert gap["low"] <= gap["difference"] <= gap["high"]
        assert (gap["items"], gap["groups"]) == (48, 24)
    page = pairs[2][1].folder.report("html").read_text()  # each answer of the page has its grade
    assert page.count("grader mm_vet:") == 48 and "right answer:" in page and "no rule scores it" not in page
    file = write_forgetting(tmp_path, "paper-mix", found)
    assert json.loads(file.with_suffix(".json").read_text()) == found
    assert "fine-tuned less base" in file.read_text()


def test_numbers_that_leave_out_answers_say_so_and_those_of_two_judges_are_not_compared(shards, tmp_path, chat_api):
    from chat_api_server import completion

    from eval.grade import main as grade

    chat_api(lambda request: completion("?" if "| red | " in request["messages"][-1]["content"] else "1.0"))
    found = []
    for name, right, judge in (("base", 24, "judge"), ("tuned", 48, "judge"), ("other", 48, "another")):
        (tmp_path / name).mkdir()
        one = evaluated(tmp_path / name, shards, "open_answer", right)
        file = tmp_path / name / "open_answer.yaml"
        grade(["--config", str(file), "--grader", "mm_vet", "--set", f"grading.judge=api:{judge}"])
        found.append(reported(one))
    base, tuned, other = found
    assert "24 of 48 answers could not be graded" in finish([base.planned])[0].note
    (row,) = forgetting(("base", "mix"), [(base, tuned)])["rows"]
    assert row["doubts"][0].startswith("base: Grader mm_vet: 24 of 48 answers could not be graded")
    assert row["doubts"][1] == "24 questions have a number of one of the two models alone; no difference has them"
    assert (
        "open_answer, base: Grader mm_vet: 24 of 48"
        in forgetting_page({"base": "", "finetuned": "", "rows": [row]}).markdown()
    )
    (row,) = forgetting(("base", "mix"), [(base, other)])["rows"]
    assert row["difference"] is None
    assert row["reason"] == "the two models were graded with different settings (judge); grade both alike"


def test_what_is_missing_is_named_in_its_row(shards, tmp_path):
    graded = reported(evaluated(tmp_path, shards, "open_answer", 48))
    graded = replace(graded, outcome=replace(graded.outcome, note="48 answers, not graded yet: python -m eval.grade"))
    missing = Evaluated(graded.planned, Outcome("open_answer", "graded", "", "Table 13", reason="no shard set"))
    (row,) = forgetting(("base", "mix"), [(missing, graded)])["rows"]
    assert row["base"] is row["finetuned"] is row["difference"] is None
    assert row["reason"] == "no shard set; 48 answers, not graded yet: python -m eval.grade"
    page = forgetting_page({"base": "a", "finetuned": "b", "rows": [row]}).markdown()
    assert "| mean grade | not run | not graded |" in page


def test_the_groups_are_shipped_data_sets_and_the_papers_have_their_numbers(tmp_path):
    for group in GROUPS.values():
        assert set(group.datasets) <= set(dataset_names())
    request = Request("llava-hf/llava-1.5-7b-hf", "llava_benchmarks")
    (planned,) = plan([open_dataset("textvqa", request)], request)
    assert planned.row.key == "vqa" and "does not exist; build it" in (planned.reason or "")
    (outcome,) = finish([planned])
    (row,) = forgetting(("a", "b"), [(Evaluated(planned, outcome),) * 2])["rows"]
    assert row["paper"] == [pytest.approx(0.582), pytest.approx(0.58)]


def test_a_group_stands_alone(capsys):
    with pytest.raises(SystemExit):
        main(["--model", "x", "--datasets", "forgetting", "demo"])
    assert "--datasets forgetting stands for textvqa, pope_popular" in capsys.readouterr().err
    assert ConfigError


def test_the_demo_judge_reads_both_graders_questions():
    assert judged("Right class: cat\nAnswer: a Cat") == "right"
    assert judged("Right class: cat\nAnswer: a dog") == "wrong"
    assert judged("a | b\nWhere? | a cave | in a dark cave | ") == "0.0"
    assert judged("nonsense") == "0.0"
