"""The demo world's TextVQA, POPE and MM-Vet: questions in their forms about images of the world.

    short_answer            "What colour is the object?", with the answers of ten people         task vqa
    existence_popular       "Is there a NAME in the image?"; those not there: the most frequent  task yes_no
    existence_adversarial   those not there differ from what is there in one attribute
    open_answer             the object's name (rec), or a fact about it (rec, know)              task graded

Two questions of a kind share an image. Nothing here was in any training data, except for the kinds of questions
`short_answer` and the names in `open_answer`, which the instruction data have.
"""

from functools import partial
from typing import Any

from data_prep.prompts import image_question
from data_prep.sample import Sample, Turn
from data_prep.toy_world.facts import ALL_FACTS, CLASSES, ToyClass, keyed_rng, pick, toy_classes
from data_prep.toy_world.render import render

PARTS = ("short_answer", "existence_popular", "existence_adversarial", "open_answer")
PEOPLE = 10
ALIKE = 8  # of ten people's answers; the others say another value
POPULAR = 12  # classes, by their rank in the uneven parts
LOOKS = {"colour": 0, "texture": 1, "shape": 2}


def question_sample(part: str, seed: int, image_size: int, index: int) -> Sample:
    """Question number `index` of one of `PARTS`; questions 2n and 2n + 1 show image n."""
    image, second = divmod(index, 2)
    toy_class = toy_classes(seed)[image % CLASSES]
    group, sample_id = f"{part}-{image:06d}", f"{part}-{image:06d}/{second}"
    made = {"short_answer": _short, "open_answer": _open}.get(part)
    rng = keyed_rng(seed, sample_id)
    if made is not None:
        question, answer, meta = made(toy_class, seed, second, rng)
    else:
        question, answer, meta = _existence(toy_class, seed, second, rng, popular=part == "existence_popular")
    return Sample(
        id=sample_id,
        image=partial(render, toy_class, seed=seed, key=group, image_size=image_size),
        turns=(Turn("human", image_question(question)), Turn("gpt", answer)),
        meta={"group": group, **meta},
    )


def _short(toy_class: ToyClass, seed: int, second: int, rng: Any) -> tuple[str, str, dict[str, Any]]:
    """A question about one attribute; two of the ten people see another value."""
    image_kinds = list(LOOKS)
    kind = image_kinds[(toy_class.index + second) % len(image_kinds)]
    answer = toy_class.looks[LOOKS[kind]]
    values = sorted({other.looks[LOOKS[kind]] for other in toy_classes(seed)} - {answer})
    answers = [answer] * ALIKE + [pick(rng, values)] * (PEOPLE - ALIKE)
    return f"What {kind} is the object?", answer, {"answers": answers}


def _existence(
    toy_class: ToyClass, seed: int, second: int, rng: Any, *, popular: bool
) -> tuple[str, str, dict[str, Any]]:
    """The first question is about what is there, the second about another class."""
    if not second:
        return f"Is there a {toy_class.name} in the image?", "yes", {}
    others = [other for other in toy_classes(seed) if other != toy_class]
    if popular:
        others = [other for other in others if other.rank < POPULAR]
    else:
        others = [o for o in others if sum(a == b for a, b in zip(o.looks, toy_class.looks, strict=True)) == 2]
    return f"Is there a {others[int(rng.integers(len(others)))].name} in the image?", "no", {}


def _open(toy_class: ToyClass, seed: int, second: int, rng: Any) -> tuple[str, str, dict[str, Any]]:  # noqa: ARG001
    if not second:
        return "What is the name of this object?", toy_class.name, {"capability": ["rec"]}
    kind = pick(rng, tuple(ALL_FACTS))
    question = ALL_FACTS[kind].question.format(thing="this object")
    return question, toy_class.facts[kind], {"capability": ["know", "rec"]}
