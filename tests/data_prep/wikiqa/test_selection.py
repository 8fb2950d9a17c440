"""The final questions, counted by hand: repeats, total, letters; and what the filter keeps."""

from collections import Counter
from dataclasses import replace

import pytest

from data_prep.wikiqa.filtering import GUESSED, KEPT, NO_GUESS, UNKNOWN, UNREADABLE, filter_prompts, outcome_of
from data_prep.wikiqa.generated import GeneratedQuestion
from data_prep.wikiqa.selection import Item, balanced, chosen_items

QUESTION = GeneratedQuestion(
    "Where does this object live?", ("Africa", "Asia", "Europe", "Peru"), 1, "It lives in Asia."
)


def items(classes=10, questions=2, images=3, wording=None) -> list[Item]:
    return [
        Item(
            f"n{one}", "tench", number, f"{one}-{image}.jpg", replace(QUESTION, question=wording or f"{one} {number}?")
        )
        for one in range(classes)
        for number in range(questions)
        for image in range(images)
    ]


def test_a_wording_occurs_three_times_over_all_classes_and_letter_cases():
    same = items(wording="What does this object eat?")
    same[7] = replace(same[7], question=replace(QUESTION, question="what does  this object EAT?"))
    found = chosen_items([*same, *items(classes=1)], repeats=3, total=100, seed=0)
    assert (len(found.items), found.repeats, found.surplus) == (3 + 6, 57, 0)


def test_the_total_is_a_limit_and_questions_keep_their_images_together():
    found = chosen_items(items(), repeats=3, total=20, seed=0)
    assert (len(found.items), found.repeats, found.surplus) == (20, 0, 40)
    by_question = Counter((item.class_id, item.number) for item in found.items)
    assert sorted(by_question.values()) == [2, 3, 3, 3, 3, 3, 3]


def test_the_same_seed_gives_the_same_lines_in_whatever_order_items_come_and_another_seed_others():
    first = chosen_items(items(), repeats=3, total=20, seed=1)
    assert chosen_items(items()[::-1], repeats=3, total=20, seed=1) == first
    assert balanced(first.items, 1) == balanced(first.items, 1)
    assert {item.key for item in chosen_items(items(), repeats=3, total=20, seed=2).items} != {
        item.key for item in first.items
    }


@pytest.mark.parametrize("count", [1, 3, 4, 22, 60])
def test_every_letter_is_right_equally_often_and_the_right_choice_stays_right(count):
    chosen = items()[:count]
    found = balanced(chosen, seed=0)
    times = Counter(item.question.answer for item in found)
    assert max(times.values()) - min(times[letter] for letter in range(4)) <= 1
    for item in found:
        assert item.question.choices[item.question.answer] == "Asia"
        assert sorted(item.question.choices) == sorted(QUESTION.choices)
    assert [item.key for item in found] == [item.key for item in chosen]


@pytest.mark.parametrize(
    ("choice", "moves"),
    [("All of the above", False), ("None of these", False), ("Both A and B", False), ("A, B, and C", False),
     ("All the above", False), ("B and C only", False), ("Neither", False), ("Africa and Asia", True),
     ("All individuals of the group", True), ("Hepatitis A", True), ("Cape of Good Hope", True)],
)  # fmt: skip
def test_choices_that_refer_to_others_keep_their_order_and_the_rest_makes_up_for_them(choice, moves):
    fixed = replace(QUESTION, choices=("Africa", "Asia", "Europe", choice), answer=3)
    chosen = [replace(item, question=fixed) if number % 2 else item for number, item in enumerate(items())]
    found = balanced(chosen, seed=0)
    kept = all(item.question == fixed for item in found[1::2])
    assert kept is not moves
    if not moves:  # 30 are right at D already
        assert Counter(item.question.answer for item in found) == {0: 10, 1: 10, 2: 10, 3: 30}


@pytest.mark.parametrize(
    ("named", "unnamed", "outcome"),
    [
        ("B", "A", KEPT), ("B", "B", GUESSED), ("C", "C", UNKNOWN), ("A", "B", UNKNOWN), ("Not sure.", "A", UNREADABLE),
        ("**B**", "I cannot tell without the object.", KEPT), ("Asia", "Peru", KEPT), ("(B) Asia", "Asia", GUESSED),
        ("The answer is B.", "My best guess is B.", GUESSED), ("<think>A? No.</think>B", "As an AI, I can't.", KEPT),
        ("A or B", "A", UNREADABLE), ("", "A", UNREADABLE),
        ("B", " ", NO_GUESS), ("B", "<think>It may", NO_GUESS), ("Ｂ", "Cannot be determined", KEPT),
    ],
)  # fmt: skip
def test_a_question_is_kept_if_it_is_answered_with_the_class_and_not_without(named, unnamed, outcome):
    assert outcome_of(QUESTION, named, unnamed).reason == outcome


def test_both_prompts_of_the_filter_name_the_class_or_not():
    named, unnamed = filter_prompts(QUESTION, "jack-o'-lantern")
    assert "\nWhere does jack-o'-lantern live?\nA. Africa\nB. Asia\n" in named
    assert "\nWhere does this object live?\nA. Africa\nB. Asia\n" in unnamed
    assert "jack" not in unnamed
    assert "we don't know what the object is" in unnamed
    assert named.endswith("Output only one character A/B/C/D.")
