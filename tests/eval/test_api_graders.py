"""Graders that ask a model behind an API, against a server on this machine."""

import json
import re
from typing import Any

import pytest
from chat_api_server import completion, failure

from configs.errors import ConfigError
from configs.grading import GradingConfig
from eval.grade import main as grade
from eval.graders.judge_prompt import read_prompt
from eval.graders.labelled_answers import read_labelled
from eval.graders.llm_judge import LLMJudge
from eval.graders.mm_vet import MMVet
from eval.graders.types import StoredAnswer
from eval.judge_agreement import main as judge_agreement
from eval.metrics.capabilities import GradedAnswer, capability_tables
from eval.metrics.kappa import agreement_of
from eval.reports.grade_blocks import grader_blocks, grading_warnings
from eval.types import Reference
from tests.eval.stored_answers import stored_answer

ANSWERS = {"tench": ["a fish", "Tinca tinca", "a cat", ""], "cat": ["cat", "a dog"]}
JUDGE = ["--set", "grading.judge=api:judge", "--set", "grading.api.backoff=0", "--set", "grading.api.concurrency=1"]


def stored(text: str, target: str = "tench", question: str = "What is it?") -> StoredAnswer:
    return StoredAnswer(stored_answer("a", text, target), text, Reference(target), question)


def report_of(folder) -> dict[str, Any]:
    return json.loads(folder.report("json").read_text())


def by_answer(request: dict) -> tuple:
    """A judge that knows fish and Latin."""
    answer = re.search(r"^Answer: (.*)$", request["messages"][-1]["content"], re.MULTILINE)[1]
    said = {"a fish": "Too general.", "Tinca tinca": "right", "(empty)": "No answer", "cat": "**right**"}
    return completion(said.get(answer, "wrong"))


def test_a_judge_grades_every_answer_once_and_the_protocols_accuracy_stays(store_answers, chat_api, capsys):
    folder, _, file = store_answers(ANSWERS)
    server = chat_api(by_answer)
    grade(["--config", str(file), "--grader", "llm_judge", *JUDGE])
    report = report_of(folder)
    (entry,) = report["grades"]
    assert {name: rate["count"] for name, rate in entry["outcomes"].items()} == {
        "right": 2, "too general": 1, "several": 0, "wrong": 2, "no answer": 1,
    }  # fmt: skip
    assert report["accuracy"]["count"] == 1  # the rule finds "cat" alone
    assert entry["settings"]["judge"] == "judge"
    assert "grader llm_judge: 33.3 % correct" in capsys.readouterr().out
    assert "What type of object is in this photo?" in server.texts()[0]
    asked = len(server.requests)
    grade(["--config", str(file), "--grader", "llm_judge", *JUDGE])
    assert len(server.requests) == asked == 6


def test_a_dry_run_says_what_the_judge_may_cost_and_asks_nothing(store_answers, chat_api, capsys):
    folder, _, file = store_answers(ANSWERS)
    server = chat_api(by_answer)
    prices = ["--set", "grading.api.price_in=10", "--set", "grading.api.price_out=20"]
    grade(["--config", str(file), "--grader", "llm_judge", "--dry-run", *JUDGE, *prices])
    printed = capsys.readouterr()
    assert "6 questions to ask and up to 6 a second time of judge: up to 72 requests" in printed.err
    assert "at most 0." in printed.err
    assert "llm_judge: 0 of 6 answers have a grade; right if a language model says" in printed.out
    grade(["--config", str(file), "--grader", "llm_judge", "--dry-run", "--json", *JUDGE, *prices])
    (planned,) = json.loads(capsys.readouterr().out)
    assert (planned["grader"], planned["answers"], planned["graded"]) == ("llm_judge", 6, 0)
    assert planned["spending"]["requests"] == 72
    assert not server.requests and not folder.graders()


def test_replies_of_a_refused_grading_are_kept_and_not_paid_for_twice(store_answers, chat_api, capsys):
    folder, _, file = store_answers(ANSWERS)
    server = chat_api(completion("wrong"), completion("wrong"), failure(401, "no such key"))
    with pytest.raises(SystemExit):
        grade(["--config", str(file), "--grader", "llm_judge", *JUDGE])
    assert "refuses every question" in capsys.readouterr().err
    assert folder.grades("llm_judge").read_text().count("\n") == 2
    server.replies = [completion("right")]
    grade(["--config", str(file), "--grader", "llm_judge", *JUDGE])
    assert len(server.requests) == 3 + 4
    assert report_of(folder)["grades"][0]["outcomes"]["right"]["count"] == 4


def test_an_unreadable_reply_is_asked_for_once_more_and_then_a_failure_never_a_zero(store_answers, chat_api):
    folder, _, file = store_answers({"tench": ["a fish"], "cat": ["cat"]})
    server = chat_api(completion("It depends."), completion("Hmm"), completion("right"), completion("still not sure"))
    grade(["--config", str(file), "--grader", "llm_judge", *JUDGE])
    assert len(server.requests) == 4
    assert server.texts()[2].endswith("right, too general, several, wrong, no answer.")
    (entry,) = report_of(folder)["grades"]
    assert (entry["items"]["graded"], entry["items"]["failed"], entry["accuracy"]["value"]) == (1, 1, 1.0)
    assert "cannot be read: 'still not sure'" in entry["failures"][0]["reason"]


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("0.5", 0.5), ("1", 1.0), ("0", 0.0), ("0.35", 0.4), (" 0.8 | ", 0.8), ("Correctness: 0.7", 0.7), ("1.0.", 1.0),
        ("1.5", None), ("5/10", None), ("50%", None), ("ten", None), ("", None), ("10", None), ("-0.5", None),
        ("0,7", None), ("0.7.", 0.7), ("1.0/1.0", None),
    ],
)  # fmt: skip
def test_the_number_in_a_reply_to_mm_vets_question(reply, number):
    assert MMVet(GradingConfig(judge="api:gpt")).read(reply) == number


@pytest.mark.parametrize(("reply", "number"), [("0.", None), ("1", None), (" 0", None), ("0.7", 0.7), ("1.0", 1.0)])
def test_a_number_whose_decimals_may_be_cut_off_is_no_grade(reply, number):
    assert MMVet(GradingConfig(judge="api:gpt")).read(reply, cut=True) == number


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("right", "right"), ("Right.", "right"), ("**Too general**", "too general"), ("Answer: wrong", "wrong"),
        ("too-general", "too general"), ("I would say it is wrong.", "wrong"), ("no answer", "no answer"),
        ("right or wrong", None), ("It may be right or wrong", None), ("correct", None), ("", None),
        ("Not right.", None), ("The answer isn’t quite right", None), ("cannot be right", None),
        ("Right class: tench. The answer is wrong.", "wrong"), ("It names the right class", None),
        ("Wrong. Right would be tench.", "wrong"), ("It does not name the fish, so it is wrong", "wrong"),
    ],
)  # fmt: skip
def test_the_outcome_in_a_judges_reply(reply, outcome):
    assert LLMJudge(GradingConfig(judge="api:gpt")).read(reply) == outcome


def test_reasoning_refusals_and_what_is_cut_off_inside_a_sentence_are_no_outcomes(store_answers, chat_api):
    folder, _, file = store_answers({"tench": ["one", "two", "three", "four"]})
    replies = {
        "one": completion("<think>Is it wrong? Or too general?</think>right"),
        "two": completion(None, message={"role": "assistant", "content": None, "refusal": "right or not, I cannot"}),
        "three": completion("The answer may be right", finish_reason="length"),
        "four": completion("Wrong, since it", finish_reason="length"),
    }
    server = chat_api(
        lambda request: replies[re.search("^Answer: (.*)$", str(request["messages"][-1]["content"]), re.M)[1]]
    )
    grade(["--config", str(file), "--grader", "llm_judge", *JUDGE])
    (entry,) = report_of(folder)["grades"]
    assert (entry["outcomes"]["right"]["count"], entry["outcomes"]["wrong"]["count"]) == (1, 1)
    assert entry["items"]["failed"] == 2 and len(server.requests) == 4 + 2


def test_mm_vets_question_is_the_published_table_with_one_more_line():
    grader = MMVet(GradingConfig(judge="api:gpt"))
    text = grader.wording(stored("x is 5", "-1<AND>-5", "What is x?"))
    assert text.startswith("Compare the ground truth and prediction from AI models, ")
    assert text.endswith("| 1.0\n\nWhat is x? | -1 <AND> -5 | x is 5 | ")
    assert (grader.times, grader.model.max_tokens) == (5, 3)
    braces = grader.wording(stored("{target} {names}", "a", "{answer}"))
    assert braces.endswith("\n{answer} | a | {target} {names} | ")


def test_the_grade_is_the_mean_of_all_gradings():
    grade_of = MMVet(GradingConfig(judge="api:gpt")).combined([0.5, 0.6, 0.6], stored("x"))
    assert (grade_of.score, grade_of.extracted, grade_of.outcome) == (pytest.approx(1.7 / 3), "0.5 0.6 0.6", None)


def test_a_question_counts_for_each_of_its_capabilities_and_for_their_combination():
    found = capability_tables(
        [
            GradedAnswer([1.0, 0.8], ["rec", "ocr"], "a"),
            GradedAnswer([0.0, 0.2], ["rec"], "b"),
            GradedAnswer([0.5, 0.5], ["ocr", "rec"], "b"),
        ]
    )
    values = {
        name: round(mean["value"], 4) for name, mean in (("total", found["total"]), *found["capabilities"].items())
    }
    assert values == {"total": 0.5, "rec": 0.5, "ocr": 0.7}
    assert {name: (round(mean["value"], 4), mean["n"]) for name, mean in found["combinations"].items()} == {
        "ocr, rec": (0.7, 2), "rec": (0.1, 1),
    }  # fmt: skip
    assert found["runs"] == [pytest.approx(0.5), pytest.approx(0.5)] and found["deviation"] == pytest.approx(0.0)


def test_kappa_of_a_table_computed_by_hand():
    """Cohen: 20 yes-yes, 15 no-no, 5 and 10 apart: observed 0.7, chance 0.5."""
    first = ["y"] * 25 + ["n"] * 25
    second = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    found = agreement_of(first, second)
    assert (found["rate"]["value"], found["kappa"]["value"]) == (0.7, pytest.approx(0.4))
    assert 0.1 < found["kappa"]["low"] < 0.25 < 0.55 < found["kappa"]["high"] < 0.7  # standard error: 0.13
    assert agreement_of(["y"] * 3, ["y"] * 3)["kappa"]["value"] is None


def test_agreement_of_rules_needs_no_api_and_that_of_a_judge_is_over_all_outcomes(tmp_path, chat_api, capsys):
    judge_agreement(["--output", str(tmp_path / "dry"), "--set", "grading.judge=api:judge", "--dry-run", "--json"])
    planned = json.loads(capsys.readouterr().out)
    assert planned["spending"]["questions"] == 2 * planned["labels"] == 140
    assert not (tmp_path / "dry").exists()
    judge_agreement(["--output", str(tmp_path / "rules"), "--json"])
    rules = json.loads(capsys.readouterr().out)
    assert list(rules["graders"]) == ["contains", "word", "name", "exact"]
    labels = {a.answer.text: a.label for a in read_labelled()}
    assert rules["labels"] == len(labels) >= 60

    def perfect(request: dict) -> tuple:
        answer = re.search(r"^Answer: (.*)$", request["messages"][-1]["content"], re.MULTILINE)[1]
        return completion(labels["" if answer == "(empty)" else answer])

    server = chat_api(perfect)
    judge_agreement(["--output", str(tmp_path), "--set", "grading.judge=api:judge"])
    found = json.loads((tmp_path / "agreement.json").read_text())["graders"]["llm_judge"]
    assert (found["outcomes"]["kappa"]["value"], found["differing"], found["ungraded"]) == (1.0, [], 0)
    assert "It differs on no answer." in capsys.readouterr().out
    asked = len(server.requests)
    judge_agreement(["--output", str(tmp_path), "--set", "grading.judge=api:judge"])
    assert len(server.requests) == asked == len(labels)


def test_a_judge_that_says_nothing_readable_has_no_numbers_and_the_page_says_so(tmp_path, chat_api):
    chat_api(completion("Hmm."))
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"target": "cat", "answer": "a cat", "label": "right"}\n')
    judge_agreement(["--output", str(tmp_path), "--labels", str(labels), "--set", "grading.judge=api:judge"])
    found = json.loads((tmp_path / "agreement.json").read_text())["graders"]["llm_judge"]
    assert (found["ungraded"], found["right"]["rate"]["value"], found["right"]["kappa"]["value"]) == (1, None, None)
    page = (tmp_path / "agreement.md").read_text()
    assert "It graded no answer." in page and "larger grading.judge_tokens or another judge" in page


def test_a_comparison_names_the_models_whose_answers_have_no_grade():
    rate = {"value": 0.5, "low": 0.1, "high": 0.9, "n": 2}
    items = {"answers": 5, "failed": 2, "missing": 1, "stale": 0}
    partly = {"grader": "llm_judge", "items": items, "failures": [{"reason": "timed out"}]}
    entry = {"accuracy": rate, "mean_score": None, "settings": {}, "warnings": grading_warnings(partly)}
    shown = grader_blocks({"runs/a": {"open": {"grades": {"llm_judge": entry}}}}, ["open"])
    texts = [block.text for block in shown if getattr(block, "warning", False)]
    assert [text.partition(" (")[0] for text in texts] == [
        "open, runs/a: Grader llm_judge: 2 of 5 answers could not be graded; none of its numbers counts them",
        "open, runs/a: Grader llm_judge: 1 of 5 answers have no grade. Run eval.grade again.",
    ]


def test_every_kind_of_labelled_answer_is_there():
    labelled = read_labelled()
    assert {a.label for a in labelled} == {"right", "too general", "several", "wrong", "no answer"}
    assert {"synonym", "general", "wrong", "negation", "several"} <= {a.kind for a in labelled}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"target": "a", "answer": "b", "label": "maybe"}', "line 1 has the label 'maybe'; choose one of right"),
        ('{"target": "a", "label": "right"}', "line 1 is no labelled answer (KeyError 'answer')"),
        ('{"target": "a", "answer": "b", "label": "right", "names": "hound"}', "names is 'hound', not a list"),
        ("", "has no labelled answer"),
    ],
)
def test_a_damaged_file_of_labels_is_one_line(tmp_path, line, message, capsys):
    (tmp_path / "labels.jsonl").write_text(f"{line}\n" if line else "")
    with pytest.raises(SystemExit) as left:
        judge_agreement(["--output", str(tmp_path), "--labels", str(tmp_path / "labels.jsonl")])
    error = capsys.readouterr().err
    assert left.value.code == 2 and message in error and error.count("\n") == 1


def test_the_last_line_of_a_file_of_labels_counts_without_a_line_end(tmp_path):
    line = '{"target": "beagle", "answer": "A dog.", "label": "too general"}'
    (tmp_path / "labels.jsonl").write_text(f"{line}\n\n{line}")
    assert [answer.answer.id for answer in read_labelled(tmp_path / "labels.jsonl")] == ["line-1", "line-3"]


def test_a_prompt_of_your_own_must_show_the_answer_and_the_class(tmp_path):
    file = tmp_path / "prompt.yaml"
    file.write_text("source: ours\nagain: once more\nprompt: 'Is {answer} right?'\n")
    with pytest.raises(ConfigError, match=r"has no \{target\}"):
        read_prompt("llm_judge", str(file))
    file.write_text("source: ours\nprompt: 'Is {answer} a {target}?'\n")
    with pytest.raises(ConfigError, match="has no text `again`"):
        read_prompt("llm_judge", str(file))


def test_a_grader_that_asks_needs_a_judge(store_answers, capsys):
    _, _, file = store_answers(ANSWERS)
    with pytest.raises(SystemExit):
        grade(["--config", str(file), "--grader", "mm_vet"])
    assert "grading.judge is None; set it to api:NAME" in capsys.readouterr().err
