r"""The lettered options of a multiple-choice question, and the letter that its stored answer means.

    Where does it live?\nA. Africa\nB. Asia          the form of ImageWikiQA: one line an option
    (A) Africa (B) Asia          in one line; also A) or A: , lower-case, indented, with bullets, in full-width signs
    A.\nAfrica\nB.\nAsia         over several lines
    1. Africa\n2. Asia           numbered: read as A and B, and asked with letters

What may be read in two ways is not read: `WANTED` shows the form that always is.
"""

import itertools
import re
from dataclasses import dataclass

from data_prep.sample import IMAGE_PLACEHOLDER

LETTERS = "ABCDEFGHIJ"
WANTED = r"Where does it live?\nA. Africa\nB. Asia\nC. Europe\nD. Peru"
_WIDE = str.maketrans(
    {chr(ord(sign) + 0xFEE0): sign for sign in f"{LETTERS}{LETTERS.lower()}0123456789().:"} | {"、": ".", "．": "."}
)
_BULLET = r"[ \t]*(?:[-*•][ \t]+)?"
_MARK = r"\*{{0,2}}(?:\(({0})\)[.:]?|\[({0})\]|({0})[.):])\*{{0,2}}"
_INSTRUCTION = re.compile(
    r"(?:^|(?<=[.?!;])[ \t]+)[ \t]*(?:please\b|choose\b|answer\b|select\b|pick\b|respond\b|reply\b|output\b|give\b|"
    r"provide\b|return\b|write\b|which of\b|your answer\b)",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class Options:
    """The `texts` of options A, B, C, ...; `start` is where they begin in the question, `end` where they end."""

    texts: tuple[str, ...]
    start: int
    end: int
    numbered: bool = False


def find_options(question: str) -> Options | None:
    r"""The options of a question; of several lists with one option a line the last counts. None if it has none.

    >>> find_options("Where does it live? (A) Africa (B) Asia").texts
    ('Africa', 'Asia')
    """
    plain = question.translate(_WIDE)  # sign for sign: positions stay
    for letters in (LETTERS, LETTERS.lower()):
        if found := _by_lines(question, plain, letters) or _in_text(question, plain, letters):
            return found
    numbers = _by_lines(question, plain, "123456789")
    return None if numbers is None else Options(numbers.texts, numbers.start, numbers.end, numbered=True)


def answer_letter(answer: str, options: Options) -> str | None:
    r"""The letter that a stored answer means: a letter, a letter with its option, or the text of one option.

    >>> answer_letter("(b) Asia", find_options("Where? (A) Africa (B) Asia"))
    'B'
    """
    plain = answer.translate(_WIDE).strip()
    letters = LETTERS[: len(options.texts)]
    if options.numbered and plain.strip("(). ").isdecimal():
        number = int(plain.strip("(). "))
        return letters[number - 1] if 1 <= number <= len(letters) else None
    same = [letter for letter, text in zip(letters, options.texts, strict=True) if _alike(text, answer)]
    bare = plain.strip("().: ").upper()
    if len(bare) == 1 and bare in letters:
        return bare
    stated = re.match(rf"\(?([{LETTERS}{LETTERS.lower()}])[).:]+\s*(.+)$", plain, re.DOTALL)
    if stated and stated[1].upper() in letters:
        letter = stated[1].upper()
        return letter if _alike(options.texts[letters.index(letter)], stated[2]) else None
    return same[0] if len(same) == 1 else None


def with_letters(question: str, options: Options) -> str:
    """The question with numbered options as lettered ones; any other as it is."""
    if not options.numbered:
        return question
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, options.texts, strict=False)]
    return question[: options.start] + "\n".join(lines) + question[options.end :]


def unreadable_options(question: str) -> str:
    """Why a question has no options that can be read, with the form that is wanted."""
    shown = question.replace(f"{IMAGE_PLACEHOLDER}\n", "")
    shown = shown if len(shown) <= 80 else f"{shown[:80]}…"
    return f"the question {shown!r} has no lettered options that can be read; the form: {WANTED!r}"


def _alike(text: str, other: str) -> bool:
    return text.strip(" .").casefold() == other.strip(" .\n").casefold()


def _by_lines(question: str, plain: str, letters: str) -> Options | None:
    """One option a line, or from its line to that of the next; the last list of those that begin with A."""
    marks = list(re.finditer(rf"^{_BULLET}{_MARK.format(f'[{letters}]')}(?=\s|[^\s\d])", plain, re.MULTILINE))
    chosen: list[re.Match[str]] = []
    for mark in marks:
        sign = mark[1] or mark[2] or mark[3]
        if sign == letters[0]:
            chosen = []
        if sign == letters[len(chosen) : len(chosen) + 1]:
            chosen.append(mark)
    fewest = 2 if letters[0] == "1" else 1
    if len(chosen) < fewest or chosen[-1] is not marks[-1]:  # a letter is missing, or another order
        return None
    following = letters[len(chosen) : len(chosen) + 1]
    if following and re.search(rf"\s\(?{following}[.):]\s", plain[chosen[0].start() :]):  # another within a line
        return None
    between = [plain[mark.end() : following.start()] for mark, following in itertools.pairwise(chosen)]
    wrapped = any("\n" in text.strip() for text in between)
    ends = [mark.start() for mark in chosen[1:]] + [_last_end(plain, chosen[-1], wrapped)]
    return _made(question, [(mark.start(), mark.end()) for mark in chosen], ends)


def _in_text(question: str, plain: str, letters: str) -> Options | None:
    """Options within a line: (A) x (B) y, or A. x B. y; each letter once, in order, in one style."""
    one = rf"([{letters}])"
    wide = one.translate({ord(letter): f"{letter}{chr(ord(letter) + 0xFEE0)}" for letter in letters})
    styles = (
        (plain, rf"\({one}\)\s*"),
        (plain, rf"\[{one}\]\s*"),
        (plain, rf"(?<![A-Za-z0-9.(]){one}[.):](?:\s+|(?=[^\x00-\x7f]))"),
        (question, rf"(?<![A-Za-z0-9.(]){wide}[．：、）]\s*"),  # full-width signs need no blank
    )
    for text, style in styles:
        marks = list(re.finditer(style, text))
        firsts = [number for number, mark in enumerate(marks) if _plain(mark) == letters[0]]
        if not firsts:
            continue
        marks = marks[firsts[0] :]
        instruction = _INSTRUCTION.search(plain, marks[-1].end())
        cut = _INSTRUCTION.search(plain, marks[0].end())
        if cut is not None:  # (A) or (B) after "Choose" is no further option
            marks = [mark for mark in marks if mark.start() < cut.start()]
            instruction = cut
        if len(marks) < 2 or [_plain(mark) for mark in marks] != list(letters[: len(marks)]):
            continue
        end = plain.find("\n", marks[-1].end())
        end = min(len(plain) if end < 0 else end, instruction.start() if instruction else len(plain))
        ends = [_without_or(plain, mark.start()) for mark in marks[1:]] + [end]
        return _made(question, [(mark.start(), mark.end()) for mark in marks], ends)
    return None


def _without_or(plain: str, end: int) -> int:
    """Where an option ends that "or" joins to the next."""
    joined = re.search(r"[,;\s]\s*(?:or|and)\s*$", plain[:end])
    return joined.start() if joined else end


def _plain(mark: re.Match[str]) -> str:
    return mark[1].translate(_WIDE)


def _last_end(plain: str, mark: re.Match[str], wrapped: bool) -> int:
    """Where the last option ends: with its first line of text, or the lines that continue it.

    Those are indented more than the option, or, where other options are `wrapped`, any up to an instruction.
    """
    first = re.compile(r"\s*[^\n]*").match(plain, mark.end())
    assert first is not None
    end, indent = first.end(), len(mark[0]) - len(mark[0].lstrip(" \t"))
    for line in plain[end + 1 :].split("\n"):
        deeper = len(line) - len(line.lstrip(" \t")) > indent
        if not line.strip() or _INSTRUCTION.match(line) or not (wrapped or deeper):
            break
        end += 1 + len(line)
    return end


def _made(question: str, marks: list[tuple[int, int]], ends: list[int]) -> Options | None:
    texts = [" ".join(question[mark[1] : end].split()).strip(",;* ") for mark, end in zip(marks, ends, strict=True)]
    return Options(tuple(texts), marks[0][0], ends[-1]) if all(texts) else None
