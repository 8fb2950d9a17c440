"""Synonyms of the shipped class lists, taken from WordNet's files.

    python -m data_prep.wordnet_synonyms --wordnet /usr/share/wordnet flowers102           compare the list to WordNet
    python -m data_prep.wordnet_synonyms --wordnet /usr/share/wordnet flowers102 --write   update the list
    python -m data_prep.wordnet_synonyms --wordnet /usr/share/wordnet flowers102 --find    senses of unmapped names

A list's `synsets`, written by hand, name the noun of WordNet 3.0 for each class (its offset, as in ImageNet's wnids),
or null if there is none; its `synonyms` are the lemmas of that noun. Exits with 1 if they differ.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.command_line import command_parser, exit_on_user_error
from configs.errors import DataError, UserError
from data_prep import atomic
from data_prep.class_names import SHIPPED

HYPERNYM = ("@", "@i")
"""Pointer symbols of wninput(5WN) for a kind of a thing, and for an instance of it."""
NOTE = "synsets, synonyms: WordNet 3.0, Copyright 2006 by Princeton University (LICENSE.WordNet)"


@dataclass(frozen=True, slots=True)
class WordNetNouns:
    """WordNet's nouns: synset to (lemmas, gloss), and name in lower case to synsets, the most frequent first.

    `parents` maps a synset to its hypernyms: what every such thing is, a thing of a name (Paris) included.
    """

    synsets: dict[str, tuple[tuple[str, ...], str]]
    senses: dict[str, list[str]]
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "WordNetNouns":
        """The files data.noun and index.noun, as wndb(5WN) describes them.

        Raises `DataError` if they are not there, are damaged, or are not of one version.
        """
        try:
            lines = [(folder / name).read_text(encoding="latin-1").splitlines() for name in ("data.noun", "index.noun")]
        except OSError as error:
            raise DataError(
                f"{folder} has no data.noun and index.noun ({error.strerror}); they are in the package wordnet-base of"
                f" Debian and in WordNet-3.0.tar.gz of wordnet.princeton.edu"
            ) from error
        data, index = ([line for line in file if not line.startswith(" ")] for file in lines)  # a licence comes first
        synsets, parents, senses = {}, {}, {}
        for line in data:
            with _naming(folder / "data.noun", line):
                synset, synsets[synset], parents[synset] = _synset(line)
        for line in index:
            with _naming(folder / "index.noun", line):
                name, _, count, *rest = line.split()
                senses[name.replace("_", " ")] = [f"n{offset}" for offset in rest[-int(count) :]]
        lacking = next((synset for found in senses.values() for synset in found if synset not in synsets), None)
        if lacking is not None:
            raise DataError(
                f"{folder / 'data.noun'} has no synset {lacking}, which index.noun names; are the two files complete "
                "and of one version?"
            )
        return cls(synsets, senses, parents)

    def synonyms(self, synsets: Sequence[str | None]) -> list[list[str]]:
        """The lemmas of each synset, none for None. Raises `DataError` for one that is not in these files."""
        for synset in synsets:
            if synset is not None and synset not in self.synsets:
                raise DataError(f"the synset {synset} is not in these files; synsets are those of WordNet 3.0")
        return [list(self.synsets[synset][0]) if synset else [] for synset in synsets]

    def find(self, name: str) -> list[str]:
        """Lines with the senses of a name, also written with or without hyphens, apostrophes and plural."""
        plain = name.lower()
        forms = dict.fromkeys((plain, plain.replace("-", " "), plain.replace(" ", "-"), plain.replace(" ", "")))
        forms |= dict.fromkeys([*(form.removesuffix("s") for form in forms), plain.replace("'", "")])
        found = dict.fromkeys(synset for form in forms for synset in self.senses.get(form, ()))
        return [f"{synset}  {', '.join(self.synsets[synset][0])}: {self.synsets[synset][1]}" for synset in found]


@contextmanager
def _naming(file: Path, line: str) -> Iterator[None]:
    """Raise `DataError` with the file and the line in place of an error in reading its fields."""
    try:
        yield
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{file} is no file of WordNet, or is damaged, at the line {line[:60]!r}; copy it again"
        ) from error


def _synset(line: str) -> tuple[str, tuple[tuple[str, ...], str], tuple[str, ...]]:
    """(synset, (lemmas, gloss), its hypernyms) of a line of data.noun. Raises `ValueError` for another line."""
    words, _, gloss = line.partition(" | ")
    offset, _, _, count, *rest = words.split()
    lemmas = rest[: 2 * int(count, 16) : 2]
    pointers = rest[2 * int(count, 16) :]  # their number, then of each: symbol, synset, part of speech, words
    if len(pointers) < 1 + 4 * int(pointers[0]):
        raise ValueError("it ends within its pointers")
    kinds = zip(pointers[1::4], pointers[2::4], strict=False)
    above = tuple(f"n{target}" for symbol, target in kinds if symbol in HYPERNYM)
    return f"n{offset}", (tuple(lemma.replace("_", " ") for lemma in lemmas), gloss.strip()), above


def with_synonyms(values: dict[str, Any], nouns: WordNetNouns) -> dict[str, Any]:
    """The class list `values` with the synonyms that its `synsets` have."""
    return values | {"_wordnet": NOTE, "synonyms": nouns.synonyms(values["synsets"])}


def main(argv: Sequence[str] | None = None) -> None:
    """Compare, write or find."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "lists",
        nargs="+",
        choices=("flowers102", "caltech101", "stanford_cars", "cifar10"),
        metavar="LIST",
        help="class lists: %(choices)s",
    )
    parser.add_argument("--wordnet", type=Path, required=True, help="folder with data.noun and index.noun")
    parser.add_argument("--write", action="store_true", help="write the lists")
    parser.add_argument("--find", action="store_true", help="print the senses of names without a synset")
    arguments = parser.parse_args(argv)
    try:
        nouns = WordNetNouns.read(arguments.wordnet)
        same = [_do(SHIPPED / f"{name}.json", nouns, arguments) for name in arguments.lists]
    except UserError as error:
        exit_on_user_error(error)
    raise SystemExit(not all(same))


def _do(path: Path, nouns: WordNetNouns, arguments: argparse.Namespace) -> bool:
    """Compare or update one list; True if it now agrees with WordNet."""
    values = json.loads(path.read_text(encoding="utf-8-sig"))
    made = with_synonyms(values, nouns)
    if arguments.find:
        for name, synset in zip(values["names"], values["synsets"], strict=True):
            if synset is None:
                print(f"{name}\n" + "".join(f"    {line}\n" for line in nouns.find(name)), end="")
    if arguments.write:
        atomic.write_json(path, made)
    known = sum(synset is not None for synset in made["synsets"])
    more = sum(
        any(lemma.lower() != name.lower() for lemma in lemmas)
        for name, lemmas in zip(made["names"], made["synonyms"], strict=True)
    )
    same: bool = arguments.write or made == values
    print(
        f"{path.stem}: {known} of {len(made['names'])} classes are in WordNet, {more} have another name there; "
        f"{'as shipped' if same else 'NOT as shipped'}"
    )
    return same


if __name__ == "__main__":
    main()
