"""How often is each class named in training text? `python -m data_prep.frequency --config FILE --classes imagenet`

The paper's finding is that accuracy on a class follows how often training data mention it. This counts, for each
source of a configuration (its stages), the occurrences of every class name in all turns, upper and lower case alike, by
three rules; a protocol chooses one (`protocol.frequency_count`):

- `plain`: the name's words as they are written, whole words only ("zebra" never counts for "bra").
- `inflected`: the same, in the singular or plural ("wolves" counts for "wolf"); of "kite (bird of prey)" the part in
  brackets is left out.
- `official`: as the paper's authors do (data_analysis): turns that hold the name's tokens (`treebank`), each turn once,
  never at a turn's beginning or end; and as they look names up unchanged that were joined from tokens, one with
  brackets or a possessive is never found.

A name inside a longer one counts for both ("tiger shark" for "tiger"); two classes of one name get the same count. No
image is read and no shard is needed.
"""

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from configs.command_line import add_output_file, config_of, config_parser, exit_on_user_error
from configs.data import DataConfig
from configs.errors import UserError
from configs.run import RunConfig
from data_prep import atomic
from data_prep.build import chosen_sources, config_schema
from data_prep.class_names import load_class_list
from data_prep.progress import progress_bar
from data_prep.records import expected_count
from data_prep.registry import open_source
from data_prep.sample import Drop, Sample
from data_prep.treebank import tokens

RULES = ("plain", "inflected", "official")
WORD = re.compile(r"[^\W_]+")
MAX_PRINTED_CLASSES = 20  # classes in the table; the file has all
BRACKETS = re.compile(r"\([^)]*\)")
IRREGULAR = {
    "mouse": "mice",
    "goose": "geese",
    "ox": "oxen",
    "foot": "feet",
    "tooth": "teeth",
    "child": "children",
    "person": "people",
    "wolf": "wolves",
    "leaf": "leaves",
    "loaf": "loaves",
    "knife": "knives",
    "half": "halves",
    "shelf": "shelves",
    "calf": "calves",
    "cactus": "cacti",
    "fungus": "fungi",
    "fish": "fish",
    "sheep": "sheep",
}


@dataclass(frozen=True, slots=True)
class Counts:
    """By class index: how often its name occurs, and in how many records."""

    occurrences: list[int]
    records: list[int]


class NameCounter:
    """Finds class names in text, by one of `RULES`.

    >>> NameCounter(["wolf", "tiger shark", "tiger"]).find("Two wolves and a Tiger  shark.")
    [0, 1, 2]
    >>> NameCounter(["wolf", "tiger"], "official").find("Tiger and wolf, a wolf and a tiger")
    [0]
    """

    def __init__(self, names: Sequence[str], rule: str = "inflected") -> None:
        self._by_first: dict[str, list[tuple[list[str], list[int]]]] = {}
        self._size, self._official = len(names), rule == "official"
        forms: dict[tuple[str, ...], list[int]] = {}
        for index, name in enumerate(names):
            for form in FORMS[rule](name):
                forms.setdefault(form, []).append(index)
        for (first, *rest), indices in forms.items():
            self._by_first.setdefault(first, []).append((rest, indices))

    def find(self, text: str) -> list[int]:
        """The class of every occurrence in `text`, sorted; by the official rule, every class once."""
        words = tokens(text) if self._official else WORD.findall(text.lower())
        found: list[int] = []
        for position, word in enumerate(words):
            for rest, indices in self._by_first.get(word, ()):
                if words[position + 1 : position + 1 + len(rest)] != rest:
                    continue
                if not self._official or 0 < position < len(words) - 1 - len(rest):
                    found += indices
        return sorted(set(found) if self._official else found)

    def count(self, records: Iterable[Sample | Drop]) -> Counts:
        """Occurrences in all turns of all samples."""
        counts = self.none()
        for record in records:
            self.add(record, counts)
        return counts

    def none(self) -> Counts:
        """The counts of no record."""
        return Counts([0] * self._size, [0] * self._size)

    def add(self, record: Sample | Drop, counts: Counts) -> None:
        """Add the occurrences in all turns of a sample to `counts`."""
        if isinstance(record, Drop):
            return
        texts = [turn.text for turn in record.turns]
        found = [index for text in (texts if self._official else ["\n".join(texts)]) for index in self.find(text)]
        for index in found:
            counts.occurrences[index] += 1
        for index in set(found):
            counts.records[index] += 1


def name_forms(name: str) -> set[tuple[str, ...]]:
    """The singular and plural of a class name as tuples of lower-case words."""
    words = tuple(WORD.findall(BRACKETS.sub("", name).lower())) or tuple(WORD.findall(name.lower()))
    return {words, (*words[:-1], plural(words[-1]))} if words else set()


def plain_forms(name: str) -> set[tuple[str, ...]]:
    """The class name as a tuple of lower-case words."""
    words = tuple(WORD.findall(name.lower()))
    return {words} if words else set()


def official_forms(name: str) -> set[tuple[str, ...]]:
    """The name's tokens where they, joined by spaces, are the name again; else nothing, as it is never looked up so."""
    words = tuple(tokens(name))
    return {words} if " ".join(words) == name.lower() else set()


FORMS = {"plain": plain_forms, "inflected": name_forms, "official": official_forms}
"""Rule to the forms of a name that are looked for."""


def plural(word: str) -> str:
    """The plural of an English noun: `dish` gives `dishes`, `fly` `flies`, `wolf` `wolves`, `snowman` `snowmen`."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("man") and word not in ("human", "ottoman", "talisman", "caiman"):
        return f"{word[:-3]}men"
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        return f"{word[:-1]}ies"
    return f"{word}s"


def main(argv: Sequence[str] | None = None) -> None:
    """Count the names of a class list in the sources of a configuration."""
    parser = config_parser(__doc__, RunConfig)
    parser.add_argument("--classes", required=True, metavar="LIST", help="a shipped list (imagenet, ...) or a file")
    parser.add_argument("--sources", metavar="A,B", help="only these of data.sources (default: all)")
    add_output_file(parser, "all counts as JSON")
    parser.add_argument("--rule", choices=("all", *RULES), default="all", help="how names are counted (default: all)")
    arguments = parser.parse_args(argv)
    try:
        names = load_class_list(arguments.classes).names
        config = config_of(arguments, config_schema(arguments.config))
        counts = _count_sources(config.data, arguments, names)
    except UserError as error:
        exit_on_user_error(error)
    if arguments.output:
        content = {"class_names": names, "rules": {rule: _values(by_source) for rule, by_source in counts.items()}}
        atomic.write_json(arguments.output, content)
    for rule, by_source in counts.items():
        print(f"counted by rule {rule}\n{table(names, by_source)} (rule {rule})")


def _values(counts: Mapping[str, Counts]) -> dict[str, dict[str, list[int]]]:
    return {source: {"occurrences": c.occurrences, "records": c.records} for source, c in counts.items()}


def _count_sources(
    data: DataConfig, arguments: argparse.Namespace, names: Sequence[str]
) -> dict[str, dict[str, Counts]]:
    """By rule, by source. The records are read once."""
    counters = {rule: NameCounter(names, rule) for rule in (RULES if arguments.rule == "all" else (arguments.rule,))}
    counts: dict[str, dict[str, Counts]] = {rule: {} for rule in counters}
    for name in chosen_sources(arguments.sources, data):
        source = open_source(data, name)
        for rule, counter in counters.items():
            counts[rule][name] = counter.none()
        for record in progress_bar(source.records, name=name, unit="records", total=expected_count(source)):
            for rule, counter in counters.items():
                counter.add(record, counts[rule][name])
    return counts


def table(names: Sequence[str], counts: Mapping[str, Counts]) -> str:
    """The most frequent classes, occurrences by source, and how many classes are never named."""
    total = [sum(c.occurrences[index] for c in counts.values()) for index in range(len(names))]
    order = sorted(range(len(names)), key=lambda index: -total[index])
    lines = [f"{'class':30} {'total':>10} " + " ".join(f"{source:>14}" for source in counts)]
    for index in order[:MAX_PRINTED_CLASSES]:
        by_source = " ".join(f"{c.occurrences[index]:{max(14, len(source))},}" for source, c in counts.items())
        lines.append(f"{names[index][:30]:30} {total[index]:10,} {by_source}")
    return "\n".join([*lines, f"{sum(count == 0 for count in total)} of {len(names)} classes are never named"])


if __name__ == "__main__":
    main()
