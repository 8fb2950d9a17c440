"""The concepts in an answer: its noun phrases, found by the words that never belong to one.

    concepts("This is a photo of a small brown dog on a red sofa.")   ->  ("small brown dog", "red sofa")

The paper that defines concept similarity (arXiv 2503.21851) takes spaCy's noun chunks without articles, pronouns,
numbers and words such as "image" and "object". Here phrases end at punctuation and at articles, pronouns, prepositions,
conjunctions, auxiliary and common verbs, so that no parser is needed; a phrase may keep an adverb or a rare verb.
"""

import re

ENDS = frozenset(
    "a an the this that these those it its he she they them his her their there here which who whom whose "
    "where when what why how some any each every no not and or but nor so yet if than then as at by for from "
    "in into of off on onto out over to under up with without near next beside behind between through during "
    "about around above below like while is are was were be been being am has have had having do does did can "
    "could may might must shall should will would appears appear seems seem looks look looking shows show "
    "showing shown depicts depict depicting features featuring contains contain containing sitting standing "
    "lying laying running walking flying holding wearing eating made taken also likely probably possibly very "
    "most i we you my your our ".split()
)
"""Words that are in no noun phrase, or that begin or end one."""
SAYS_NOTHING = frozenset(
    "image picture photo photograph object type kind one two three four five six seven eight nine ten thing".split()
)
"""Words that answers use of any image; a phrase of nothing else is no concept."""


def concepts(answer: str) -> tuple[str, ...]:
    """The noun phrases of an answer in their order, each once, in lower case."""
    found: dict[str, None] = {}
    for part in re.split(r"[^\w\s'’-]+|\n", answer.lower()):
        phrase: list[str] = []
        for word in [*part.split(), "the"]:
            if word.strip("'’-") not in ENDS:
                phrase.append(word.strip("'’-"))
                continue
            while phrase and (phrase[0] in SAYS_NOTHING or not phrase[0] or phrase[0].isdigit()):
                phrase.pop(0)
            if phrase:
                found[" ".join(phrase)] = None
            phrase = []
    return tuple(found)
