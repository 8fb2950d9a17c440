"""How many tokens each sample becomes: counted once for a tokenizer, in parallel, and stored next to the manifest.

    SHARDS/SOURCE/lengths-3f9c….npy      one row a sample: tokens, supervised tokens, words

The name holds a fingerprint of everything the counts depend on, so a file is either right or not found. Counting reads
the records only, no image (its size where the family needs that), and marks the samples that training would refuse;
`train.data.untrainable` names them. Such a sample counts as the one token that takes its place.
Packing partitions by these lengths, LLaVA's groups by the words, and the dry run adds them up.

    counts = token_counts(sources, settings, make_builder)      # (samples of all sources,), see COUNTS
    counts["tokens"][position]
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from configs.errors import DataError
from configs.model import ChatConfig
from configs.shard_dir import ShardDir
from data_prep.atomic import atomic_file
from data_prep.file_lock import locked
from data_prep.processes import parallel_map
from data_prep.progress import Progress
from train.data.collate import ExampleBuilder
from train.data.order import Mask
from train.data.sources import SourceSet
from train.supervision import signals

COUNTS = np.dtype([("tokens", "<u4"), ("supervised", "<u4"), ("words", "<u4"), ("fault", "u1")])
"""`fault` is 1 for a sample that cannot be trained on."""
VERSION = 4  # raise it when `train.chat.render` renders differently, or a linear probe's token is elsewhere
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
                   "added_tokens.json", "chat_template.jinja", "chat_template.json")  # fmt: skip
CHUNK = 500  # samples a process counts at a time
MAX_PROCESSES = 16

Counts = np.ndarray[Any, np.dtype[np.void]]


@dataclass(frozen=True)
class LengthSettings:
    """What the counts depend on besides the data: tokenizer, chat settings, `Family.image_token_key`."""

    tokenizer: str
    template: str
    system_prompt: str
    max_length: int
    image_tokens: int | str
    no_target_tokens: str
    transformers: str = transformers.__version__
    version: int = VERSION
    probe: bool = False
    """Whether images with a class have a linear probe's token."""

    @classmethod
    def of(cls, folder: Path, chat: ChatConfig, image_tokens: int | str, *, probe: bool = False) -> "LengthSettings":
        """Of the tokenizer in the model folder `folder`."""
        digest = hashlib.sha256()
        for name in TOKENIZER_FILES:
            if (folder / name).is_file():
                digest.update(name.encode() + (folder / name).read_bytes())
        settings = (chat.template, chat.system_prompt, chat.max_length, image_tokens, chat.no_target_tokens)
        return cls(digest.hexdigest(), *settings, probe=probe)

    def file(self, folder: Path, data_fingerprint: str) -> Path:
        """Where the counts of the shard set in `folder` are kept."""
        settings = {key: value for key, value in asdict(self).items() if key != "probe" or value}
        text = json.dumps([data_fingerprint, settings], sort_keys=True)
        return ShardDir(folder).token_counts(hashlib.sha256(text.encode()).hexdigest()[:32])


def token_counts(sources: SourceSet, settings: LengthSettings, make_builder: Callable[[], ExampleBuilder]) -> Counts:
    """Counts of every position; a source that was not counted yet is, with the builder that `make_builder` loads.

    Samples that cannot be trained on are marked as `fault`.
    """
    counts = [_of_source(sources, number, settings, make_builder) for number in range(len(sources.sets))]
    return np.concatenate(counts) if counts else np.empty(0, COUNTS)


def known_counts(sources: SourceSet, settings: LengthSettings) -> Counts | None:
    """The same where all sources were counted before; else None."""
    found = []
    for shards in sources.sets:
        counts = _read(settings.file(shards.folder, shards.fingerprint), len(shards))
        if counts is None:
            return None
        found.append(counts)
    return np.concatenate(found) if found else np.empty(0, COUNTS)


def _of_source(
    sources: SourceSet, number: int, settings: LengthSettings, make_builder: Callable[[], ExampleBuilder]
) -> Counts:
    shards = sources.sets[number]
    file = settings.file(shards.folder, shards.fingerprint)
    counts = _read(file, len(shards))
    if counts is not None:
        return counts
    with locked(
        ShardDir(shards.folder).token_counts_lock, required=False
    ):  # the ranks of a job start together: one counts, the others wait and read
        counts = _read(file, len(shards))
        if counts is None:
            counts = _count(sources, number, make_builder())
            _write(file, counts)
    return counts


def _read(file: Path, samples: int) -> Counts | None:
    """The counts in `file`, or None if it is missing or not whole."""
    try:
        counts: Counts = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return counts if counts.dtype == COUNTS and counts.shape == (samples,) else None


def _write(file: Path, counts: Counts) -> None:
    try:
        with atomic_file(file) as stream:
            np.save(stream, counts)
    except OSError as error:
        print(f"{file} cannot be written ({error.strerror}): tokens are counted again next time", file=sys.stderr)


def _count(sources: SourceSet, number: int, builder: ExampleBuilder) -> Counts:
    first, last = int(sources.starts[number]), int(sources.starts[number + 1])
    ranges = [(start, min(start + CHUNK, last)) for start in range(first, last, CHUNK)]
    processes = min(len(os.sched_getaffinity(0)), MAX_PROCESSES, len(ranges))
    parts = []
    with Progress(f"counting tokens of {sources.names[number]}", last - first) as progress:
        for part in parallel_map(_Counter(sources, sources.with_image(), builder), ranges, processes, _set_up):
            parts.append(part)
            progress.add(len(part), drops=0)
    return np.concatenate(parts) if parts else np.empty(0, COUNTS)


@dataclass(frozen=True)
class _Counter:
    """Counts a range of positions."""

    sources: SourceSet
    with_image: Mask
    example_builder: ExampleBuilder

    def __call__(self, positions: tuple[int, int]) -> Counts:
        counts = np.empty(positions[1] - positions[0], COUNTS)
        for row, position in enumerate(range(*positions)):
            has_image = bool(self.with_image[position])
            read = self.sources.sample if has_image and self.example_builder.needs_image_size else self.sources.record
            words = 0
            try:
                sample = read(position)
                words = sum(len(turn.text.split()) for turn in sample.turns)  # as LLaVA counts, <image> included
                expanded = self.example_builder.tokens(sample, has_image=has_image)
            except DataError:
                counts[row] = (1, 0, words, 1)
                continue
            counts[row] = (len(expanded.input_ids), sum(expanded.supervised[1:]), words, 0)
        return counts


def _set_up() -> None:
    """In a counting process: the tokenizer has no threads, and signals that training only notes end the process."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signals.install(())
