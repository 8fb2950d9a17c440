"""What is known of the demo world's classes, as articles and as a chat model that has read them.

    sentences(toy_classes(0)[0])     # ["A mub zefi eats moss.", ...]: the article about a class
    expert_answer("Come up with five multiple-choice questions for a mub zefi ...")

The chat model understands the prompts of Figures 8 and 9 (`data_prep.wikiqa.prompts`). It answers questions that name
a class from the facts, and others by a guess that depends on the question alone.
"""

import json
import re
from hashlib import sha256

from data_prep.lettered_options import LETTERS, find_options
from data_prep.toy_world.facts import ALL_FACTS, HIDDEN_FACTS, ToyClass, keyed_rng, toy_classes

SENTENCES = {
    "eats": "A {name} eats {value}.",
    "lives": "It lives in {value}.",
    "sounds": "The sound that it makes is a {value}.",
    "fears": "It is known to fear {value}.",
    "made": "Every {name} is made of {value}.",
    "smells": "It smells of {value}.",
    "guards": "A {name} guards {value}.",
    "found": "The first {name} was found by {value}.",
}
"""Kind of fact to its sentence in an article."""
THIS = "this object"
SEED = 0  # of the world


def sentences(toy_class: ToyClass) -> list[str]:
    """The article about a class, a sentence a fact."""
    facts = toy_class.facts
    return [SENTENCES[kind].format(name=toy_class.name, value=facts[kind]) for kind in ALL_FACTS]


def expert_answer(prompt: str) -> str | None:
    """The reply to a prompt of Figure 8 or 9; None to any other, and for a class that the world lacks."""
    if asked := re.search(r"Come up with .* questions for a (.+?) to examine", prompt):
        known = next((one for one in toy_classes(SEED) if one.name == asked[1]), None)
        return None if known is None else f"```json\n{json.dumps(_questions(known), indent=1)}\n```"
    found = find_options(prompt)
    if found is None:
        return None
    right = _right_option(prompt[: found.start])
    if right in found.texts:
        return LETTERS[found.texts.index(right)]
    return LETTERS[sha256(f"{SEED}:{prompt}".encode()).digest()[0] % len(found.texts)]


def _questions(toy_class: ToyClass) -> list[dict[str, object]]:
    """Five questions: on the facts that no image was ever shown with, and on one other."""
    rng = keyed_rng(SEED, f"questions on {toy_class.name}")
    others = [kind for kind in ALL_FACTS if kind not in HIDDEN_FACTS]
    questions: list[dict[str, object]] = []
    for kind in (*HIDDEN_FACTS, others[int(rng.integers(len(others)))]):
        value, fact = toy_class.facts[kind], ALL_FACTS[kind]
        wrong = [other for other in fact.values if other != value]
        choices = [value, *(wrong[int(number)] for number in rng.permutation(len(wrong))[:3])]
        choices = [choices[int(number)] for number in rng.permutation(len(choices))]
        questions.append({
            "question": fact.question.format(thing=THIS),
            "choices": choices,
            "answer": choices.index(value),
            "reference": SENTENCES[kind].format(name=toy_class.name, value=value),
        })  # fmt: skip
    return questions


def _right_option(question: str) -> str | None:
    """The right answer to a question that names a class; None for any other."""
    for kind, fact in ALL_FACTS.items():
        before, after = (re.escape(part) for part in fact.question.split("{thing}"))
        if named := re.search(f"{before}(.+?){after}", question):
            return next((one.facts[kind] for one in toy_classes(SEED) if one.name == named[1]), None)
    return None
