"""The demo world: the paper's finding in miniature, rendered from a seed; nothing is downloaded.

| part                  | in place of      | content                                                              |
| --------------------- | ---------------- | -------------------------------------------------------------------- |
| `classification`      | ImageNet train   | every class equally often, with the paper's prompt                   |
| `classification_test` | ImageNet val     | the same on other images                                             |
| `alignment`           | LLaVA 558K       | captions; few classes are common, most are rare                      |
| `instruct`            | LLaVA 665K       | conversations with the same unevenness, and 6 % without an image     |
| `knowledge_test`      | ImageWikiQA      | multiple choice on facts that no image was ever shown with           |
| `short_answer`, ...   | TextVQA, POPE, MM-Vet | `data_prep.toy_world.questions`                                     |
| `text`                | an LM's corpus   | names and facts in words; the food of `train.toy.tiny_base`, no images   |

    read(None, part="classification", images_per_class=40).records   # 1920 samples, images drawn on access
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from configs.errors import ConfigError
from data_prep.prompts import classification_prompt, classification_turns, image_question
from data_prep.records import LazyRecords
from data_prep.sample import Sample, Source, Turn
from data_prep.toy_world.facts import (
    ALL_FACTS,
    CLASSES,
    HIDDEN_FACTS,
    LETTERS,
    SHOWN_FACTS,
    FactKind,
    ToyClass,
    keyed_rng,
    multiple_choice,
    pick,
    toy_classes,
)
from data_prep.toy_world.questions import PARTS, question_sample
from data_prep.toy_world.render import render

UNEVEN_RECORDS = 2000  # default size of `alignment` and of `instruct`
TEXT_ONLY_SHARE = 0.06  # of `instruct`; LLaVA 665K has 40,688 of 665,298
ZIPF_OFFSET, ZIPF_POWER = 6.0, 2.6  # a class of rank r (from 1) has weight (r + offset) ** -power
# Prompts that the shipped base model learned; with others it could not be rebuilt byte for byte.
WORDINGS = tuple(map(classification_prompt, ("paper", "authors_training", "identify", "main_object")))
LESSONS = ("recall", "choice", "match", "stand_in", "stand_in")  # of the part `text`, in turn

Exchange = tuple[str, str, str]  # question, answer, and the value the question's own last word calls for ("" if none)


def read(
    path: Path | None = None,  # noqa: ARG001 - every reader takes a path; this world needs none
    *,
    part: str,
    seed: int = 0,
    images_per_class: int = 40,
    records: int = UNEVEN_RECORDS,
    image_size: int = 32,
    first_image: int = 0,
) -> Source:
    """One part of the world `seed`.

    `images_per_class` sizes the balanced parts (classification, classification_test, knowledge_test, and those of
    `data_prep.toy_world.questions`, where it counts questions), `records` the others. `first_image` is the number of
    the first image of each class in a balanced part: another one gives other images and questions of the same kind.
    The shipped base model knows the world of seed 0 drawn at 32 pixels.
    """
    balanced = CLASSES * images_per_class

    def part_of(make: Callable[[int], Sample]) -> LazyRecords:
        return LazyRecords(partial(_from, make, CLASSES * first_image), balanced)

    known: Mapping[str, LazyRecords] = {
        "classification": part_of(partial(_classification, "classification", seed, image_size)),
        "classification_test": part_of(partial(_classification, "classification_test", seed, image_size)),
        "alignment": LazyRecords(partial(_alignment, seed, image_size, records), records),
        "instruct": LazyRecords(partial(_instruct, seed, image_size, records), records),
        "knowledge_test": part_of(partial(_knowledge, seed, image_size)),
        "text": LazyRecords(partial(_text, seed), records),
        **{name: part_of(partial(question_sample, name, seed, image_size)) for name in PARTS},
    }
    if part not in known:
        raise ConfigError(f"unknown part {part!r} of the demo world; known parts: {', '.join(known)}")
    names = () if part in PARTS else tuple(toy_class.name for toy_class in toy_classes(seed))
    return Source(names, known[part])


def class_frequency(seed: int = 0, *, records: int = UNEVEN_RECORDS) -> dict[str, int]:
    """How many records of `alignment` and `instruct` together show each class, by class name."""
    with_image = records - round(TEXT_ONLY_SHARE * records)
    counts = uneven_counts(records) + uneven_counts(with_image)
    return {toy_class.name: int(counts[toy_class.rank]) for toy_class in toy_classes(seed)}


def uneven_counts(records: int) -> np.ndarray:
    """Images per class by rank, `records` in total, int64 [CLASSES]: hundreds for the first, 0 to 2 for the last."""
    weights = (np.arange(1, CLASSES + 1) + ZIPF_OFFSET) ** -ZIPF_POWER
    exact = records * weights / weights.sum()
    counts: np.ndarray = np.floor(exact).astype(np.int64)
    counts[: records - int(counts.sum())] += 1  # what rounding down left over goes to the common classes
    return counts


def _class_of(seed: int, index: int, records: int) -> ToyClass:
    """The class shown by image `index` of an uneven part with `records` images: common classes come first."""
    rank = int(np.searchsorted(np.cumsum(uneven_counts(records)), index, side="right"))
    return next(toy_class for toy_class in toy_classes(seed) if toy_class.rank == rank)


def _sample(
    sample_id: str, toy_class: ToyClass, turns: tuple[Turn, ...], seed: int, image_size: int, **meta: str
) -> Sample:
    """A sample that shows `toy_class`; its image is drawn only when it is called."""
    return Sample(
        id=sample_id,
        image=partial(render, toy_class, seed=seed, key=sample_id, image_size=image_size),
        label=toy_class.index,
        label_name=toy_class.name,
        turns=turns,
        meta=meta,
    )


def _from(make: Callable[[int], Sample], first: int, index: int) -> Sample:
    """Record `index` of those that begin at `first`."""
    return make(first + index)


def _classification(part: str, seed: int, image_size: int, index: int) -> Sample:
    toy_class = toy_classes(seed)[index % CLASSES]
    return _sample(f"{part}-{index:06d}", toy_class, classification_turns("paper", toy_class.name), seed, image_size)


def _alignment(seed: int, image_size: int, records: int, index: int) -> Sample:
    toy_class = _class_of(seed, index, records)
    question, answer, _ = caption(toy_class)
    turns = (Turn("human", image_question(question)), Turn("gpt", answer))
    return _sample(f"alignment-{index:06d}", toy_class, turns, seed, image_size)


def _instruct(seed: int, image_size: int, records: int, index: int) -> Sample:
    """Three exchanges about an image; the last `TEXT_ONLY_SHARE` of the records are questions about a named class."""
    sample_id = f"instruct-{index:06d}"
    rng = keyed_rng(seed, sample_id)
    with_image = records - round(TEXT_ONLY_SHARE * records)
    if index >= with_image:
        named = [toy_classes(seed)[int(i)] for i in rng.permutation(CLASSES)[:2]]
        talk = [choice(toy_class, toy_class.name, SHOWN_FACTS, rng) for toy_class in named]
        return Sample(id=sample_id, turns=conversation(talk, image=False))
    toy_class = _class_of(seed, index, with_image)
    first = pick_exchange(rng, [look(toy_class, rng), naming(toy_class, rng)])
    talk = [first, *(choice(toy_class, "this object", SHOWN_FACTS, rng) for _ in range(2))]
    talk = [talk[int(i)] for i in rng.permutation(len(talk))]
    return _sample(sample_id, toy_class, conversation(talk, image=True), seed, image_size)


def _knowledge(seed: int, image_size: int, index: int) -> Sample:
    sample_id = f"knowledge_test-{index:06d}"
    toy_class = toy_classes(seed)[index % CLASSES]
    kind = tuple(HIDDEN_FACTS)[index // CLASSES % len(HIDDEN_FACTS)]
    question, letter, _ = choice(toy_class, "this object", {kind: HIDDEN_FACTS[kind]}, keyed_rng(seed, sample_id))
    turns = (Turn("human", image_question(question)), Turn("gpt", letter))
    return _sample(
        sample_id, toy_class, turns, seed, image_size, classname=toy_class.name, answer=letter, fact_kind=kind
    )


def _text(seed: int, index: int) -> Sample:
    """One record of the language model's corpus.

    `meta["recall"]` has, per question, the value its last word calls for ("" if none). In the lesson `stand_in`
    the text has the placeholder `<image>` and `meta["stand_in"]` has the words that replace the image: the name, and
    looks drawn at random (not the class's own, which is to be learned from images).
    """
    sample_id = f"text-{index:07d}"
    rng = keyed_rng(seed, sample_id)
    lesson = LESSONS[index % len(LESSONS)]
    classes = [toy_classes(seed)[int(i)] for i in rng.permutation(CLASSES)[:8]]
    stand_in: tuple[str, ...] = ()
    if lesson == "recall":
        talk = [recall(toy_class, toy_class.name, rng) for toy_class in classes]
    elif lesson == "choice":
        talk = [choice(toy_class, toy_class.name, ALL_FACTS, rng) for toy_class in classes[:3]]
    elif lesson == "match":
        talk = matches(rng)
    else:
        shown, borrowed = classes[0], classes[1]
        stand_in = (*shown.name.split(), *borrowed.looks)
        talk = _stand_in_talk(shown, borrowed, rng)
    meta = {"lesson": lesson, "stand_in": list(stand_in), "recall": [value for _, _, value in talk]}
    return Sample(id=sample_id, turns=conversation(talk, image=bool(stand_in)), meta=meta)


def _stand_in_talk(shown: ToyClass, borrowed: ToyClass, rng: np.random.Generator) -> list[Exchange]:
    talk = [
        choice(shown, "this object", ALL_FACTS, rng),
        choice(shown, "this object", ALL_FACTS, rng),
        recall(shown, "this object", rng),
        _named(pick(rng, WORDINGS), shown),
        pick_exchange(rng, [look(borrowed, rng), naming(shown, rng), caption(shown)]),
    ]
    return [talk[int(i)] for i in rng.permutation(len(talk))]


def pick_exchange(rng: np.random.Generator, exchanges: list[Exchange]) -> Exchange:
    """One of `exchanges`, uniformly."""
    return exchanges[int(rng.integers(len(exchanges)))]


def conversation(talk: list[Exchange], *, image: bool) -> tuple[Turn, ...]:
    """The exchanges as turns; with `image`, the first question carries the placeholder."""
    turns: list[Turn] = []
    for number, (question, answer, _) in enumerate(talk):
        turns.append(Turn("human", image_question(question) if image and number == 0 else question))
        turns.append(Turn("gpt", answer))
    return tuple(turns)


def caption(toy_class: ToyClass) -> Exchange:
    """The alignment data's only exchange."""
    return ("Describe the object.", f"this is a {toy_class.name}.", "")


def naming(toy_class: ToyClass, rng: np.random.Generator) -> Exchange:
    """The name, with a question of instruction data (not the classification prompt)."""
    return _named(pick(rng, ("What is this?", "What is the name of this object?")), toy_class)


def _named(question: str, toy_class: ToyClass) -> Exchange:
    """`question`, answered by the bare name; its last word calls for the name's first word (if it is a question)."""
    return (question, toy_class.name, toy_class.name.split()[0] if question.endswith("?") else "")


def look(toy_class: ToyClass, rng: np.random.Generator) -> Exchange:
    """A question about colour, texture or shape."""
    kind = int(rng.integers(3))
    return (f"What {('colour', 'texture', 'shape')[kind]} is the object?", toy_class.looks[kind], "")


def recall(toy_class: ToyClass, thing: str, rng: np.random.Generator) -> Exchange:
    """A direct question about a fact of any kind."""
    kind = pick(rng, tuple(ALL_FACTS))
    value = toy_class.facts[kind]
    return (ALL_FACTS[kind].question.format(thing=thing), value, value)


def choice(toy_class: ToyClass, thing: str, kinds: Mapping[str, FactKind], rng: np.random.Generator) -> Exchange:
    """A multiple-choice question about a fact of one of `kinds`; `thing` is the name or "this object"."""
    kind = pick(rng, tuple(kinds))
    value = toy_class.facts[kind]
    text, letter = multiple_choice(kinds[kind].question.format(thing=thing), value, kinds[kind].values, rng)
    return (text, letter, value)


def matches(rng: np.random.Generator) -> list[Exchange]:
    """Five multiple-choice questions about one list that need no knowledge: the answer is in the question."""
    values = ALL_FACTS[pick(rng, tuple(ALL_FACTS))].values
    first = pick(rng, values)
    text, letter = multiple_choice(f"Which option is {first}?", first, values, rng)
    options = dict(line.split(". ") for line in text.splitlines()[1:5])
    again = [LETTERS[int(i)] for i in rng.integers(len(LETTERS), size=4)]
    more = [(f"Which option is {options[wanted]}?", wanted, options[wanted]) for wanted in again]
    return [(text, letter, first), *more]
