"""The scorer `name`: right if the answer contains the class name, in any of its usual spellings.

    score_name("two foxes", Reference("fox")).value                    ->  True
    score_name("a black footed ferret", Reference("black-footed ferret")).value  ->  True
    score_name("a kitchen", Reference("hen")).value                    ->  False
    score_name("This is not a dog.", Reference("dog")).value           ->  False
    score_name("a goldfish, a tench or a ray", Reference("tench")).value  ->  False   (it names several)

Words are compared. Ignored are case, hyphens, apostrophes, underscores, accents of Latin letters, white space, Unicode
forms, plurals of the last word, British or American spelling, and one space more or less ("ice cream", "icecream"). In
scripts written without spaces (Chinese, Japanese, Thai, ...) a name may be anywhere in the text. Reasoning is removed
first (`data_prep.final_answer`). Wrong are a negated name ("not a dog"), an answer that names several classes of
`reference.classes`, and one that offers the name in a list of three or more joined by "or". The `value` of a refusal is
None.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from data_prep.final_answer import final_answer
from eval.types import Reference, Score

SPELLINGS = {
    "grey": "gray", "colour": "color", "coloured": "colored", "jewellery": "jewelry", "tyre": "tire",
    "centre": "center", "theatre": "theater", "moustache": "mustache", "plough": "plow",
    "aeroplane": "airplane", "fibre": "fiber",
    "pyjama": "pajama", "doughnut": "donut", "yoghurt": "yogurt", "axe": "ax", "armour": "armor", "harbour": "harbor",
    "mould": "mold", "catalogue": "catalog", "litre": "liter", "metre": "meter", "aluminium": "aluminum",
    "cauldron": "caldron", "racoon": "raccoon", "whisky": "whiskey", "omelette": "omelet",
}  # fmt: skip
IRREGULAR = {
    "men": "man", "women": "woman", "mice": "mouse", "geese": "goose", "feet": "foot", "teeth": "tooth",
    "children": "child", "people": "person", "oxen": "ox", "dice": "die", "knives": "knife", "wolves": "wolf",
    "leaves": "leaf",
    "shelves": "shelf", "calves": "calf", "loaves": "loaf", "scarves": "scarf", "halves": "half", "wives": "wife",
    "fungi": "fungus", "cacti": "cactus",
}  # fmt: skip
NOT_PLURAL = frozenset({"glasses", "news", "goods", "arms", "lens", "gas", "bus", "bass", "species", "series"})
NEGATION = re.compile(
    r"(?:\b(?:not|no|never|neither|nor|without|unlike|cannot|(?:is|are|was|were|do|does|did|ca|could|would|should)nt)"
    r"|\brather than|\binstead of)"
    r"(?: (?:a|an|the|any|really|actually|necessarily|just|of|from|like|your|typical|real|to|be|been|look|looks|seem|"
    r"appear|resemble|see|depict|depicts|show|contain)){0,5}$"
)
REFUSAL = re.compile(
    r"\b(?:i am |im |i )?(?:sorry|apologi[sz]e)\b.{0,60}\b(?:cant|cannot|can not|unable|not able)\b"
    r"|\b(?:i|we) (?:cant|cannot|can not|am unable to|am not able to|wont) (?:help|assist|identify|determine|provide)\b"
)
NO_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


LONE_NO = re.compile(r"\bno\s*[,.;:!](?=\s+\w)", re.IGNORECASE)  # "No, a dog" does not negate the dog
DENIED_WITHOUT_SPACES = re.compile(
    "(?:不是|并非|並非|没有|沒有|不像)(?:一?[只隻个個条條头頭匹种種])?[^是]*|[^、。]*(?:では|じゃ)(?:な|あり)"
)
"""What negates a name in Chinese, up to the next statement ("不是狗，是猫"), and in Japanese ("猫ではない")."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A name found in an answer: the words `start` to `end` (exclusive), and whether it is negated."""

    name: str
    start: int
    end: int
    denied: bool

    def inside(self, outer: "Mention") -> bool:
        """Whether it is a proper part of the longer mention `outer`."""
        return outer.start <= self.start and self.end <= outer.end and outer.end - outer.start > self.end - self.start


def score_name(answer: str, reference: Reference) -> Score:
    """Right if the answer names this class only, by any of `reference.names`; the module's docstring has the rules."""
    text = final_answer(answer)
    if text is None:
        return Score(None, None, "the answer ends inside its reasoning; raise max_new_tokens")
    words = words_of(text if "no" in map(str.casefold, reference.names) else LONE_NO.sub(" ", text))
    if not words:
        return Score(None, None, "the answer is empty")
    found = list(mentions(words, reference.names))
    if not found and REFUSAL.search(" ".join(words)):
        return Score(None, None, "the answer is a refusal")
    others = other_classes(words, reference)
    own = [mention for mention in found if not any(mention.inside(other) for other in others)]
    stated = [mention for mention in own if not mention.denied]
    if not stated:
        reason = "is negated" if any(m.denied for m in own) else "is part of another class's name" if found else ""
        explanation = (
            f"{found[0].name!r} {reason}" if reason else f"none of {', '.join(map(repr, reference.names))} found"
        )
        return Score(False, None, f"{explanation} (rule name)")
    if REFUSAL.search(" ".join(words)):
        return Score(None, None, "the answer is a refusal")
    rivals = sorted({other.name for other in others if not other.denied and not any(other.inside(m) for m in own)})
    if rivals:
        return Score(
            False, stated[0].name, f"it names several classes: {stated[0].name!r} and {rivals[0]!r} (rule name)"
        )
    if _one_of_several(text, reference.names):
        return Score(False, stated[0].name, f"it offers {stated[0].name!r} as one of several (rule name)")
    return Score(True, stated[0].name, f"{stated[0].name!r} found at word {stated[0].start + 1} (rule name)")


def other_classes(words: Sequence[str], reference: Reference) -> list[Mention]:
    """Mentions of `reference.classes`, without those that are also a name of the target."""
    own = {_key(name) for name in reference.names}
    return [mention for mention in mentions(words, reference.classes) if _key(mention.name) not in own]


def stated_mentions(words: Sequence[str], names: tuple[str, ...]) -> list[Mention]:
    """Mentions of `names` that are not negated and not part of another such mention."""
    found = [mention for mention in mentions(words, names) if not mention.denied]
    return [mention for mention in found if not any(mention.inside(other) for other in found)]


def mentions(words: Sequence[str], names: tuple[str, ...]) -> Iterator[Mention]:
    """Finds `names` in an answer's words."""
    index, without_spaces = _index(names)
    joined = "".join(words)
    for name in without_spaces:
        key = "".join(_key(name))
        if key in joined:
            yield Mention(name, 0, len(words), denied=key not in DENIED_WITHOUT_SPACES.sub("", joined))
    present = {form for word in words for form in forms(word)}
    present |= {form for pair in itertools.pairwise(words) for form in forms("".join(pair))}
    candidates = {name: None for form in sorted(present) for name in index.get(form, ())}
    for name in candidates:
        yield from _mentions_of(words, name, _key(name))


@lru_cache(maxsize=1024)
def _index(names: tuple[str, ...]) -> tuple[dict[str, list[str]], list[str]]:
    """Names by the words that occur in an answer with that name; and the names in scripts without spaces."""
    index: dict[str, list[str]] = {}
    without_spaces = []
    for name in dict.fromkeys(names):
        key = _key(name)
        if NO_SPACES.search(name):
            without_spaces.append(name)
        elif key:
            for form in {*forms(key[-1]), key[0], "".join(key)}:
                index.setdefault(form, []).append(name)
    return index, without_spaces


def _mentions_of(words: Sequence[str], name: str, key: tuple[str, ...]) -> Iterator[Mention]:
    target = "".join(key)
    for length in (len(key), len(key) + 1, len(key) - 1):
        code = length < len(key) and bool(re.search(r"\d", target))  # F-16, written F16
        if length < 1 or (length != len(key) and len(target) < 6 and not code):
            continue
        for start in range(len(words) - length + 1):
            window = words[start : start + length]
            if length == len(key):
                same = all(_spelling(a) == b for a, b in zip(window[:-1], key[:-1], strict=True))
                same = same or _is_plural_of_head(window, key)
                hit = same and not forms(window[-1]).isdisjoint(forms(key[-1]))
            else:
                hit = min(map(len, window)) > 1 and not forms("".join(window)).isdisjoint({target})
            if hit:
                before = " ".join(words[max(0, start - 7) : start])
                yield Mention(name, start, start + length, denied=bool(NEGATION.search(before)))


def _is_plural_of_head(window: Sequence[str], key: tuple[str, ...]) -> bool:
    """Whether `window` is "birds of paradise" where `key` is "bird of paradise"."""
    if len(key) < 3 or key[1] not in ("of", "in", "de"):
        return False
    return key[0] in forms(window[0]) and tuple(map(_spelling, window[1:-1])) == key[1:-1]


def words_of(text: str) -> list[str]:
    """The words of a text for comparison: case folded, without accents of Latin letters and without apostrophes."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub(r"['’‘ʼ`´]", "", text)
    text = "".join(map(_plain, text))
    return re.findall(r"[^\W_]+", text)


@lru_cache(maxsize=65536)
def _plain(character: str) -> str:
    base = unicodedata.normalize("NFD", character)
    return base[0] if len(base) > 1 and "a" <= base[0] <= "z" else character


@lru_cache(maxsize=65536)
def _key(name: str) -> tuple[str, ...]:
    return tuple(map(_spelling, words_of(name)))


def _spelling(word: str) -> str:
    return SPELLINGS.get(word, word)


@lru_cache(maxsize=65536)
def forms(word: str) -> frozenset[str]:
    """The word in American spelling, and its possible singulars if it may be a plural.

    >>> sorted(forms("foxes"))
    ['fox', 'foxe', 'foxes']
    """
    found = {word}
    if word in IRREGULAR:
        found.add(IRREGULAR[word])
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) and word not in NOT_PLURAL:
        found.add(word[:-1])
        if word.endswith("ies"):
            found.add(f"{word[:-3]}y")
        elif word.endswith(("ches", "shes", "sses", "xes", "zes", "oes")):
            found.add(word[:-2])
    return frozenset(map(_spelling, found))


def _one_of_several(text: str, names: tuple[str, ...]) -> bool:
    """Whether every mention is in a list of three or more alternatives joined by "or"."""
    sentences = re.split(r"[.!?\n]+", text)
    stating = [sentence for sentence in sentences if any(mentions(words_of(sentence), names))]
    return bool(stating) and all(_is_list(sentence, names) for sentence in stating)


def _is_list(sentence: str, names: tuple[str, ...]) -> bool:
    parts = re.split(r",\s*(?:or\s+)?|;|/|\s+or\s+", sentence.strip())
    if len(parts) < 3 or not re.search(r"\bor\b|/", sentence):
        return False
    naming = [part for part in parts if any(mentions(words_of(part), names))]
    return len(naming) < len(parts) - 1
