r"""The sample record, which readers yield, shards store, and training and evaluation read.

A sample keeps *turns* (speaker and text), never a rendered prompt: the chat template belongs to the model and is
applied in `train.chat.render`. A turn's text may hold the placeholder `<image>`, as in LLaVA's instruction files.

    Sample(id="n01440764/n01440764_18", image=Path("….JPEG"), label=0, label_name="tench",
           turns=(Turn("human", "<image>\nWhat type of object is in this photo?"), Turn("gpt", "tench")))
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from configs.errors import DataError

IMAGE_PLACEHOLDER = "<image>"
FILE = "file"
"""The key of `meta` with the image's file as its list has it, where the id is the number of a line."""
OWN_ID = "llava_id"
"""The key of `meta` with the id that a record's own file gives it."""
_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode  # json.dumps makes a new encoder each time
_decode = json.JSONDecoder().decode

Speaker = Literal["human", "gpt"]
ImageOrigin = Path | bytes | Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance of a conversation."""

    speaker: Speaker
    text: str

    @property
    def words(self) -> str:
        """The text without the image's place."""
        return self.text.replace(IMAGE_PLACEHOLDER, "").strip()


def without_image(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The same turns without the image's place."""
    return tuple(Turn(turn.speaker, turn.words) for turn in turns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One conversation with at most one image.

    `id` is unique within its source and stable between builds. `image` is where a reader found the
    image (a file, bytes, or a function that makes them); in a sample read from a shard it is bytes.
    `label` indexes the source's class list; `meta` has the other JSON values that an evaluation needs.
    """

    id: str
    turns: tuple[Turn, ...]
    image: ImageOrigin | None = None
    label: int | None = None
    label_name: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The sample without its image, as one line of JSON: the `.json` member of a shard."""
        record = {
            "id": self.id,
            "turns": [{"from": turn.speaker, "value": turn.text} for turn in self.turns],
            "label": self.label,
            "label_name": self.label_name,
            "meta": dict(self.meta),
        }
        return _encode(record)

    @classmethod
    def from_json(cls, text: str | bytes, image: bytes | None = None) -> "Sample":
        """Inverse of `to_json`. Raises `DataError` if a field is missing or a speaker is unknown."""
        record = _decode(text if isinstance(text, str) else text.decode())
        try:
            return cls(
                id=record["id"],
                turns=parse_turns(record["turns"]),
                image=image,
                label=record["label"],
                label_name=record["label_name"],
                meta=record["meta"],
            )
        except KeyError as missing:
            raise DataError(f"sample record without the field {missing}: {text[:200]!r}") from missing


@dataclass(frozen=True, slots=True)
class Drop:
    """A record that cannot become a sample: which one, why, the file at fault, and the id that its file gives it."""

    id: str
    reason: str
    file: str | None = None
    own_id: str | None = None

    def __post_init__(self) -> None:
        """Leave memory addresses out of the reason: two builds of one source write the same manifest."""
        object.__setattr__(self, "reason", re.sub(r" at 0x[0-9a-fA-F]+", "", self.reason))

    @property
    def name(self) -> str:
        """Its id, and the one that its file gives it."""
        return self.id if self.own_id is None else f"{self.id}, id {self.own_id}"

    def as_json(self) -> dict[str, str | None]:
        """The fields as `Drop(**fields)` takes them, without an `own_id` that is not known."""
        fields = {"id": self.id, "reason": self.reason, "file": self.file}
        return fields if self.own_id is None else {**fields, "own_id": self.own_id}


@dataclass(frozen=True, slots=True)
class Source:
    """What a reader returns: its class names (empty if it has no classes) and its records, in a fixed order.

    `ignored` names files that were seen and are no records at all, such as `Thumbs.db`: listed, not counted as drops.
    `notes` are sentences for the person who builds: what the reader recognised and did by itself.
    """

    class_names: tuple[str, ...]
    records: Iterable[Sample | Drop]
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def parse_turns(conversations: Iterable[Mapping[str, str]]) -> tuple[Turn, ...]:
    """LLaVA's `[{"from": "human"|"gpt", "value": text}, …]` as turns. Raises `DataError` on an unknown speaker."""
    turns = []
    for utterance in conversations:
        speaker = utterance["from"]
        if speaker not in ("human", "gpt"):
            raise DataError(f"unknown speaker {speaker!r}: a turn is from 'human' or 'gpt'")
        turns.append(Turn(speaker, utterance["value"]))  # type: ignore[arg-type]
    return tuple(turns)


@dataclass(frozen=True, slots=True)
class UnreadableSample:
    """A sample of a built shard set that could not be read, and why."""

    source: str
    id: str
    reason: str


def sample_name(sample: Sample) -> str:
    """The id of a sample, with the image's file where a reader numbers the lines of a file."""
    file = sample.meta.get(FILE)
    return f"{sample.id} ({file})" if file else sample.id
