"""Finds option letters in an answer: declared, rejected, at the beginning, or mentioned.

All functions take a text returned by `readable` and the options' letters ("ABCD"); they return capital letters.
"""

import re
import unicodedata

_VERB = r"(?:\s+(?:is|would be|should be|must be|will be|has to be))?\s*:?\s*"
_NOUN = r"(?:(?:option|choice|letter|answer)\b)"
_DECLARED = (
    r"\b(?:answer|ans\b\.?|(?:correct|right|best)\s+(?:option|choice|one|letter|answer))"
    rf"(?:\s+among[^.\n]*?(?=\s+is\b))?[\"']?{_VERB}(?:the\s+)?{_NOUN}?\s*"
    rf"|\b(?:choose|pick|select|go\s+with|opt\s+for|went\s+with)\s+(?:{_NOUN}\s+)?"
)
_CHINESE = r"(?:答案|[应應]?[选選][择擇]?)\s*(?:[是为為:]|应为|應為)?\s*(?:[选選][项項])?\s*"
_BETWEEN = r"[\s\"'“‘(\[*{$]*"
_NEXT = r"\s*(?:,|/|&|\bor\b|\band\b|,\s*or\b|,\s*and\b)\s*(?:(?:maybe|perhaps|possibly|option)\s+)*[\"'(\[*]*"
_END = r"(?![A-Za-z0-9&+-]|['’][A-Za-z]|\.[A-Za-z0-9])"
_DENIED = re.compile(
    r"(?:\b(?:not|never|avoid|wrong\s+to)|n['’]t)\s+"
    r"(?:(?:think|believe|say|feel|that|the|i|to|be|recommend|correct|right|best)\s+)*$",
    re.IGNORECASE,
)
"""Before a declaration, this makes it the opposite: "I don't think the answer is", "I would not choose"."""
_SAID = r"(?<![Ii]f )(?<!whether )(?i:\bit(?:['’]?s|\s+is|\s+must\s+be)\s+)"
_NAMES = r"(?i:vitamins?|plan|hepatitis|types?|groups?|figures?|grade|mr|section|part|series)"
_JUDGED = r"(?:\s+(?:is|are|was|were|because|since|as|would|seems?|looks?|can|cannot|does)\b)"


def readable(text: str) -> str:
    r"""The text with full-width forms as ASCII, boxed letters as declarations, and without markdown's asterisks.

    >>> readable("So \\boxed{\\text{C}}.")
    'So Answer: C.'
    """
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(
        r"\\boxed\s*\{\s*(?:\\(?:text|mathrm|mathbf|textbf)\s*\{)?\s*\(?([A-Za-z])\)?\s*\}?\s*\}", r"Answer: \1", text
    )
    return text.replace("**", "").replace("__", "").strip()


def plain(text: str) -> str:
    """A text for comparing options: lower case, hyphens as spaces, one space, no full stop at the end."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"[-‐‑–—_]", " ", text).replace("’", "'").split()).rstrip(".").strip()


def declarations(text: str, letters: str) -> list[str]:
    """The letters of each declaration in order; several in one declaration are joined ("BC"). Negated ones are omitted.

    >>> declarations("The answer is A ... no, the answer is b.", "ABCD")
    ['A', 'B']
    """
    both = letters + letters.lower()
    single = rf"(?!{_article()})([{both}]){_END}(?![)\]\"'*]*\s*\?)"
    found = []
    spoken_of = rf"{_SAID}(?={_BETWEEN}[{letters}][)\]\"'*$}}]*\s*(?:[.,;!](?!\w)|\n|$))"
    for opening in re.finditer(rf"(?i:{_DECLARED})|{_CHINESE}|{spoken_of}", text):
        if _DENIED.search(text[: opening.start()]):
            continue
        denied = re.match(
            rf"{_BETWEEN}(?:not|isn't|n't)\s+{_BETWEEN}[{both}]\W*\s*(?:but|rather|it is)?\s*", text[opening.end() :]
        )
        begin = opening.end() + (denied.end() if denied and re.search(r"but|rather|it is", denied[0]) else 0)
        first = re.compile(rf"{_BETWEEN}{single}").match(text, begin)
        if first is None or (first[1].islower() and _is_word(first[1], text, first.end())):
            continue
        found.append(first[1].upper() + _more(text, first.end(), both))
    praise = r"(?:is|seems)\s+(?:the\s+)?(?:most\s+)?(?:correct|right|best)"
    spoken = rf"(?i:\b(?:option|choice)\s+)[(\"']*([{letters}])[)\"']*\s+{praise}"
    return found or re.findall(spoken, text)


def _is_word(letter: str, text: str, end: int) -> bool:
    """Whether a lower-case `a` is an article, followed by a noun: "the answer is a dog"."""
    return letter == "a" and bool(re.match(r"\s+\w", text[end:]))


def _more(text: str, end: int, both: str) -> str:
    """Further letters of the same declaration: the C of "B or C". "B, C is wrong" has none: the C has its own verb."""
    further = ""
    while match := re.match(rf"[)\]\"']*{_NEXT}([{both}]){_END}(?!{_JUDGED})", text[end:]):
        if match[1] == "a" and re.match(r"\s+\w", text[end + match.end() :]):
            break
        further += match[1].upper()
        end += match.end()
    return further


def capitalised_declarations(text: str) -> set[str]:
    """{"A"} if the answer says "is A" before a capitalised word: within a sentence an article would be lower case."""
    return {"A"} if re.search(r"(?i:\b(?:answer|option|choice)\s+is)\s+A\s+[A-Z]", text) else set()


def rejections(text: str, letters: str) -> set[str]:
    """Letters that the answer says are wrong, or are not the answer."""
    group = rf"((?:[{letters}]\W{{1,3}}(?:and|or|nor)?\s*)*[{letters}])"
    wrong = r"(?:in(?:correct|valid)|wrong|false|not\b|n't|out\b|too\s+\w+|un(?:likely|suitable)|impossible)"
    no = r"(?i:(?:\b(?:not|neither|nor|except|rule out|eliminate|exclude|cannot)|n't))"
    patterns = (
        rf"(?<![A-Za-z]){group}[)\"']*\s+(?:is|are|was|were|can|could|does|do)\s*(?:clearly|also|both|all)?\s*{wrong}",
        rf"(?<![A-Za-z]){group}[)\"']*\s+(?:isn't|aren't|cannot|can't)",
        rf"{no}(?: be)?\s+(?:option\s+)?[(\"']*{group}(?![A-Za-z])",
        rf"(?<![A-Za-z])([{letters}])[)\"']*\s*\?\s*(?i:no\b)",
        rf"(?:不是|不[选選]|并非|並非|排除)\s*([{letters}])",
    )
    rejected = {
        letter
        for pattern in patterns
        for found in re.findall(pattern, text)
        for letter in re.findall(rf"[{letters}]", found)
    }
    for opening in re.finditer(rf"(?i:{_DECLARED})", text):
        denied = re.match(rf"{_BETWEEN}([{letters}]){_END}", text[opening.end() :])
        rejected |= {denied[1]} if denied and _DENIED.search(text[: opening.start()]) else set()
    return rejected


def openings(text: str, letters: str) -> set[str]:
    """Letters before punctuation at the start of the answer, a line or a sentence, or before a word at the answer's."""
    marked = set(re.findall(rf"(?:^|\n|[.!?:]\s)\s*[(\[*\"'“]*([{letters}])[*]*\s*[.):\]]", text))
    low = re.match(rf"\s*[(\[*]*([{letters.lower()}])[)\].:]\s+\w", text)
    marked |= {low[1].upper()} if low else set()
    named = re.match(
        rf"(?i:option|choice|letter)\s+[(\"']*([{letters}]|[{letters.lower()}](?=[)\"'.]*(?:\s+is\b|\s*$)))"
        r"(?![A-Za-z0-9])",
        text,
    )
    marked |= {named[1].upper()} if named else set()
    said = rf"[*]*([{letters}])[*]*(?:\s*\n(?!\s*[{letters}]\W*$)|\s+(?:is|was|because|since)\b)"
    before_text = rf"([{letters.replace('A', '')}])[ \t]+(?!(?:and|or)\b)\w"
    return marked | {found[1] for form in (said, before_text) if (found := re.match(form, text))}


def bare_letters(text: str, letters: str) -> set[str]:
    """Letters that are separate words."""
    text = re.sub(rf"\b{_NAMES}\.?\s+[{letters}]\b", " ", text)
    return set(re.findall(rf"(?<![A-Za-z0-9'’&.-])(?!{_article()})([{letters}]){_END}", text))


def bracketed_letters(text: str, letters: str) -> set[str]:
    """Capital letters in brackets, or else lower-case ones: "so it must be (b)"."""
    capital = set(re.findall(rf"[(\[]([{letters}])[)\]]", text))
    low = re.findall(rf"(?<!\w)[(\[]([{letters.lower()}])[)\]](?!\s*\d)", text)
    return capital or {letter.upper() for letter in low}


def without_lists(text: str, letters: str) -> str:
    """The text without lists of all letters, as an instruction has them: "Answer (A, B, C or D): C"."""
    if len(letters) < 3:
        return text
    between = r"\s*(?:,|/|\bor\b|\band\b|,\s*or\b|,\s*and\b)\s*"
    return re.sub(rf"\(?(?<![A-Za-z])\(?{between.join(letters)}(?![A-Za-z])\)?", " ", text)


def _article() -> str:
    """A pattern for an A before a word that can follow an article."""
    return r"A\s+(?!(?:is|was|because|since|as|and|or|would|must|should|seems|fits)\b)[A-Za-z0-9]"
