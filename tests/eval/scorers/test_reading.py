"""What a reader understands of an answer: the letter that is chosen, the class that is named."""

import json
from pathlib import Path

import pytest

from data_prep.chosen_option import choose_option
from data_prep.final_answer import final_answer
from eval.scorers.choice import score_choice
from eval.scorers.class_name import forms, score_name, words_of
from eval.types import Reference

CASES = Path(__file__).resolve().parents[4] / "shared" / "cases"
OPTIONS = ("South America", "Africa", "Asia", "Australia")
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="answers of public bug reports are not here")


@needs_cases
def test_letters_of_reported_answers_are_read_as_a_reader_does():
    cases = json.loads((CASES / "mc_letters.json").read_text(encoding="utf-8"))
    read = [choose_option(case["answer"], case.get("options", OPTIONS))[0] for case in cases]
    wrong = [case for case, letter in zip(cases, read, strict=True) if letter != case["expected"]]
    assert (len(cases), wrong) == (56, [])


@needs_cases
def test_labels_of_reported_answers_are_found_as_a_reader_does_but_for_one_that_needs_the_class_list():
    cases = json.loads((CASES / "label_matching.json").read_text(encoding="utf-8"))
    wrong = [c for c in cases if bool(score_name(c["answer"], Reference(c["label"])).value) is not c["expected"]]
    assert [(case["label"], case["answer"]) for case in wrong] == [("pig", "guinea pig")]
    known = Reference("pig", classes=("pig", "guinea pig"))
    assert score_name("guinea pig", known).value is False


LETTERS = [
    ("Answer - C", "C"),
    ("I'd pick option D.", "D"),
    ("My final answer: b", "B"),
    ("The correct option is (a).", "A"),
    ("**Final Answer**: C", "C"),
    ("$\\boxed{\\mathbf{A}}$", "A"),
    ("Neither A nor B. The answer is C.", "C"),
    ("A and B are incorrect. C", "C"),
    ("The answer is C, because B is too cold.", "C"),
    ("It can't be A.", None),
    ("It cannot be B, so C.", "C"),
    ("Both A and C", None),
    ("Answer: A and C", None),
    ("選項C", "C"),
    ("正确选项是 D", "D"),
    ("答案：Ｂ", "B"),
    ("<thinking>A or B?</thinking> The answer is B", "B"),
    ("<think>The answer is A", None),
    ("◁think▷The answer is A◁/think▷C", "C"),
    ("[THINK]A?[/THINK]D</s>", "D"),
    ("<|channel|>analysis<|message|>the answer is A", None),
    ("The answer is a guinea pig", None),
    ("the answer is: d", "D"),
    ("Answer: A guinea pig from Asia", "C"),
    ("(b) Africa", "B"),
    ("I choose B.", "B"),
    ("It's (b).", "B"),
    ("Choice (c) is correct.", "C"),
    ("option b", "B"),
    ("{'answer': 'D'}", "D"),
    ("A would be the best choice", "A"),
    ("The answer is A? No, B.", "B"),
    ("Is the answer A? No. It is C.", "C"),
    ("The answer is C\n\nWait, actually it's B.", "B"),
    ("As shown in A and B, it's D.", "D"),
    ("If it is A, it is cold. Hence (B)!", "B"),
    ("I don't think the answer is B", None),
    ("It would be wrong to choose B", None),
    ("I would not choose B", None),
    ("Don't pick A.", None),
    ("I wouldn't go with A; I'd go with D", "D"),
    ("The answer is B or maybe C", None),
    ("Answer (A, B, C or D): C", "C"),
    ("The correct letter (A, B, C, or D) is D", "D"),
    ("one of A, B, C, D", None),
    ("Vitamin C is in it", None),
    ("It lives in D.C.", None),
    ("B\nC", None),
    ("not Asia but Africa", "B"),
    ("It comes from Africa, not from Asia.", "B"),
    ("不是A，是B", "B"),
]


@pytest.mark.parametrize(("answer", "letter"), LETTERS)
def test_a_letter_is_read_as_a_reader_does(answer, letter):
    assert choose_option(answer, OPTIONS)[0] == letter


def test_a_cut_thought_is_no_answer_and_says_what_to_raise():
    score = score_choice("<think>Let me see", Reference("A", choices=OPTIONS))
    assert score.value is None
    assert "max_new_tokens" in score.reason


NAMES = [
    ("mouse", "three mice", True),
    ("berry", "berries", True),
    ("sandwich", "sandwiches", True),
    ("glasses", "a glass", False),
    ("car", "a cart", False),
    ("jalapeño", "jalapeno", True),
    ("jalapeno", "jalapeño", True),
    ("hot dog", "a hotdog", True),
    ("hotdog", "a hot dog", True),
    ("T-shirt", "a t shirt", True),
    ("猫", "这是一只猫。", True),
    ("犬", "这是一只猫。", False),
    ("й", "и", False),
    ("great white shark", "A great-white\u00a0shark!", True),
    ("dog", "It isn't a dog.", False),
    ("dog", "No dog is here; a wolf is.", False),
    ("wolf", "It is not a dog but a wolf.", True),
    ("dog", "a dog rather than a wolf", True),
    ("wolf", "a dog rather than a wolf", False),
    ("sofa", "a sofa or couch", True),
    ("tench", "a tench, goldfish, or shark", False),
    ("tench", "This tench has fins, a tail and eyes.", True),
    ("cat", "<think>a dog</think>a cat", True),
    ("dog", "<think>a dog</think>a cat", False),
    ("fire_engine", "a Fire  Engine", True),
    ("dog", "This doesn't look like a dog", False),
    ("dog", "I don’t see any dog", False),
    ("dog", "could never be a dog", False),
    ("dog", "No, a dog.", True),
    ("dog", "I'm not sure, it looks like a dog", True),
    ("no", "No, it is closed.", True),
    ("猫", "这不是猫。", False),
    ("猫", "这不是狗，是猫。", True),
    ("猫", "猫ではありません", False),
    ("猫", "これは猫です", True),
    ("F-16", "an F16", True),
    ("F-16", "an F-16A", False),
    ("bird of paradise", "Birds of Paradise", True),
]


@pytest.mark.parametrize(("label", "answer", "right"), NAMES)
def test_a_name_is_found_as_a_reader_does(label, answer, right):
    assert score_name(answer, Reference(label)).value is right


@pytest.mark.parametrize("answer", ["", " ... ", "<think>a dog", "I'm sorry, but I cannot identify this animal."])
def test_nothing_a_cut_thought_and_a_refusal_are_no_answer(answer):
    assert score_name(answer, Reference("dog")).value is None


CLASSES = ("tench", "goldfish", "pig", "guinea pig", "electric ray", "crampfish", "missile")


def test_an_answer_that_names_several_classes_is_not_credited():
    reference = Reference("tench", classes=CLASSES)
    assert score_name("a tench", reference).value is True
    several = score_name("a tench and a goldfish", reference)
    assert several.value is False
    assert "several classes" in several.reason
    assert score_name(", ".join(CLASSES), reference).value is False
    assert score_name("not a goldfish but a tench", reference).value is True


def test_a_synonym_of_the_same_class_is_no_second_class():
    reference = Reference("electric ray", ("electric ray", "crampfish"), classes=CLASSES)
    assert score_name("an electric ray, also called crampfish", reference).value is True


def test_a_longer_class_name_covers_the_one_inside_it():
    assert score_name("guinea pig", Reference("pig", classes=CLASSES)).value is False
    assert score_name("guinea pig", Reference("guinea pig", classes=CLASSES)).value is True


def test_words_and_forms():
    assert words_of("The Jack-o'-lantern_2 café") == ["the", "jack", "o", "lantern", "2", "cafe"]
    assert forms("foxes") >= {"fox", "foxes"}
    assert forms("glass") == {"glass"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B<|im_end|>", "B"),
        ("<answer>A</answer> then <answer>B</answer>", "B"),
        ("thought without an opening</think> C", "C"),
        ("C <think>is it?", "C"),
        ("<think>is it?", None),
        ("a < b > c", "a < b > c"),
    ],
)
def test_the_final_answer_is_what_is_outside_the_reasoning(text, expected):
    assert final_answer(text) == expected
