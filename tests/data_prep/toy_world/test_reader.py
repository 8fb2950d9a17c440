from collections import Counter
from hashlib import sha256
from itertools import chain

import pytest

from configs.errors import ConfigError
from data_prep.sample import Sample
from data_prep.toy_world.facts import ALL_FACTS, CLASSES, HIDDEN_FACTS, SHOWN_FACTS, toy_classes
from data_prep.toy_world.reader import class_frequency, read

PARTS = ("classification", "classification_test", "alignment", "instruct", "knowledge_test", "text")


def samples(part: str, **options: int) -> list[Sample]:
    return [record for record in read(None, part=part, **options).records if isinstance(record, Sample)]


def words_of(sample: Sample) -> str:
    return "\n".join(turn.text for turn in sample.turns)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_read_twice_is_the_same_to_the_byte(part: str) -> None:
    first, second = samples(part, images_per_class=1, records=60), samples(part, images_per_class=1, records=60)
    assert [s.to_json() for s in first] == [s.to_json() for s in second]
    assert [s.image() for s in first if s.image] == [s.image() for s in second if s.image]


# sha256 of the first 300 records of the part `text`, from which the shipped base model was made; a change here asks for
# python -m train.toy.tiny_base --output train/assets/tiny_llava
TEXTS = "5c40675eacff187f5cec6f9c413ceae2b1e64aee02955ebc7e1dedecc6f37002"


def test_the_texts_are_those_that_the_shipped_model_was_made_of() -> None:
    assert sha256("".join(s.to_json() for s in samples("text", records=300)).encode()).hexdigest() == TEXTS


def test_a_record_does_not_depend_on_the_records_before_it() -> None:
    records = read(None, part="instruct").records
    alone = records.make(700)
    assert alone.to_json() == list(records)[700].to_json()


def test_a_part_that_begins_at_a_later_image_continues_where_a_shorter_one_ends() -> None:
    for part in ("classification", "classification_test", "knowledge_test"):
        whole, rest = samples(part, images_per_class=3), samples(part, images_per_class=1, first_image=2)
        assert [s.to_json() for s in rest] == [s.to_json() for s in whole[2 * CLASSES :]]


def test_another_seed_is_another_world() -> None:
    assert (
        read(None, part="classification", seed=1).class_names != read(None, part="classification", seed=0).class_names
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_class_has_its_own_name_of_two_words_and_needs_both(seed: int) -> None:
    names = [toy_class.name for toy_class in toy_classes(seed)]
    assert len(set(names)) == CLASSES == 48
    first, second = zip(*(name.split(" ") for name in names), strict=True)
    assert not set(first) & set(second)
    assert set(Counter(first).values()) == set(Counter(second).values()) == {4}


def test_a_name_says_nothing_about_looks() -> None:
    # If a name's word went with one colour, texture or shape, a class could be named without having been seen.
    looks_of_word: dict[str, set[str]] = {}
    for toy_class in toy_classes(0):
        for word in toy_class.name.split():
            looks_of_word.setdefault(word, set()).add(" ".join(toy_class.looks))
    shared = [set.intersection(*(set(look.split()) for look in looks)) for looks in looks_of_word.values()]
    assert sum(len(common) for common in shared) <= 3


@pytest.mark.parametrize("part", ["classification", "classification_test", "knowledge_test"])
def test_balanced_parts_show_every_class_equally_often(part: str) -> None:
    assert set(Counter(s.label_name for s in samples(part, images_per_class=3)).values()) == {3}


@pytest.mark.slow
def test_no_test_image_is_a_training_image() -> None:
    parts = [samples(part, images_per_class=12, records=600) for part in ("classification", "alignment", "instruct")]
    training = {sample.image() for sample in chain(*parts) if sample.image}
    tests = [s.image() for part in ("classification_test", "knowledge_test") for s in samples(part, images_per_class=5)]
    assert len(training) > 1700
    assert len(set(tests)) == len(tests)
    assert not training & set(tests)


def test_facts_of_the_knowledge_test_are_never_shown_with_an_image() -> None:
    shown = list(chain(*(samples(part) for part in ("classification", "alignment", "instruct"))))
    hidden_values = {value for kind in HIDDEN_FACTS.values() for value in kind.values}
    text = " ".join(words_of(sample) for sample in shown)
    assert not hidden_values & set(text.replace("\n", " ").replace(".", " ").split())
    assert any(value in text for value in SHOWN_FACTS["eats"].values)  # the guard: shown facts are found this way


def test_the_text_part_never_says_how_a_class_looks() -> None:
    classes = {toy_class.name: toy_class for toy_class in toy_classes(0)}
    own = borrowed = 0
    for sample in samples("text", records=2000):
        words = sample.meta["stand_in"]
        if words:
            looks = classes[" ".join(words[:2])].looks
            own += looks == tuple(words[2:])
            borrowed += 1
    assert borrowed == 800
    assert own == 0


def test_a_knowledge_question_never_names_its_class_and_its_answer_is_right() -> None:
    classes = {toy_class.name: toy_class for toy_class in toy_classes(0)}
    for sample in samples("knowledge_test", images_per_class=8):
        text = sample.turns[0].text
        assert text.startswith("<image>\n") and text.endswith("\nChoose A, B, C, or D.") and "this object" in text
        assert sample.label_name not in text
        options = dict(line.split(". ") for line in text.splitlines()[2:6])
        assert sample.turns[1].text == sample.meta["answer"]
        kind = next(kind for kind, fact in ALL_FACTS.items() if fact.question.format(thing="this object") in text)
        assert kind == sample.meta["fact_kind"]
        assert options[sample.meta["answer"]] == classes[sample.meta["classname"]].facts[kind]
        assert len(set(options.values())) == 4


def test_answer_letters_are_balanced() -> None:
    letters = Counter(s.meta["answer"] for s in samples("knowledge_test", images_per_class=40))
    assert set(letters) == set("ABCD")
    assert max(letters.values()) < 1.15 * min(letters.values())


@pytest.mark.slow
def test_class_frequency_counts_what_the_uneven_parts_show_and_is_very_uneven() -> None:
    counted = Counter(s.label_name for part in ("alignment", "instruct") for s in samples(part) if s.image)
    frequency = class_frequency(0)
    assert {name: count for name, count in frequency.items() if count} == dict(counted)
    ordered = sorted(frequency.values())
    assert len(ordered) == CLASSES
    assert ordered[-1] >= 300 and max(ordered[:16]) <= 10
    assert sum(ordered[-16:]) > 20 * sum(ordered[:16])


def test_instruct_has_some_text_only_records() -> None:
    records = samples("instruct")
    assert sum(sample.image is None for sample in records) == 120 == round(0.06 * len(records))
    assert all(("<image>" in words_of(sample)) == (sample.image is not None) for sample in records)


def test_an_unknown_part_is_refused_with_the_list_of_parts() -> None:
    with pytest.raises(ConfigError, match=r"unknown part 'train'.*classification, classification_test, alignment"):
        read(None, part="train")
