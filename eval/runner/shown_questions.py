"""The first questions of an evaluation as `--dry-run` prints them, and whether the model has room for them.

Loads no torch: tokens are counted by tokenizer.json alone, without the image, so the count is a lower bound up to a few
tokens.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from configs.errors import ConfigError, DataError
from configs.evaluation import EvalConfig
from configs.run_dir import MODEL_CONFIG, run_of
from data_prep.sample import Sample
from data_prep.shards import ShardSet
from eval.tasks.registry import make_task, task_output
from eval.types import ItemIndex, Question

SHOWN = 3  # questions
LONGEST = 700  # characters of a turn; of a longer one beginning and end are shown
TOKENIZER = "tokenizer.json"


def shown_questions(config: EvalConfig, shards: ShardSet, items: Sequence[int]) -> str:
    """The first of `items` with their questions and right answers.

    Raises `ConfigError` if none of these questions fits into the model's positions.
    """
    lines, lengths = [], []
    for sample, question in _first(config, shards, items):
        if isinstance(question, DataError):
            lines.append(f"\n{sample.id}: cannot be evaluated: {question}")
            continue
        turns = "\n".join(f"  {turn.speaker}: {_cut(turn.text)}" for turn in question.turns)
        prefix = f"\n  gpt: {config.protocol.answer_prefix} ..." if config.protocol.answer_prefix else ""
        lines.append(f"\n{sample.id}, right is {question.target!r}:\n{turns}{prefix}")
        lengths.append(" ".join(turn.text for turn in question.turns))
    if task_output(config.protocol.task) == "text" and lengths:
        _check_lengths(config, lengths)
    return "\n".join(lines)


def _first(config: EvalConfig, shards: ShardSet, items: Sequence[int]) -> Iterator[tuple[Sample, Question | DataError]]:
    task = make_task(config.protocol)
    for item in items[:SHOWN]:
        sample = shards.sample(item)
        try:
            yield sample, task.question(sample, ItemIndex(item, len(shards)))
        except DataError as error:
            yield sample, error


def _cut(text: str) -> str:
    left_out = len(text) - LONGEST
    if left_out <= 0:
        return text
    return f"{text[: LONGEST * 3 // 4]} … [{left_out:,} characters] … {text[-LONGEST // 4 :]}"


def _check_lengths(config: EvalConfig, texts: Sequence[str]) -> None:
    run = run_of(config.model)
    folder = Path(config.model) if run is None else run.export
    if not (folder / TOKENIZER).is_file() or not (folder / MODEL_CONFIG).is_file():
        return
    positions = _positions(folder / MODEL_CONFIG)
    if positions is None:
        return
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    least = min(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)
    if least > positions:
        raise ConfigError(
            f"each of the first {len(texts)} questions has {least:,} tokens or more, and the model in {folder} has "
            f"{positions:,} positions: every item would fail; ask about fewer classes (--set protocol.candidates=20), "
            "or evaluate a model with a longer context"
        )


def _positions(file: Path) -> int | None:
    """Tokens of the language model's context by its config.json; None if that does not say."""
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
        found = values.get("text_config", values).get("max_position_embeddings")
        return None if found is None else int(found)
    except (ValueError, TypeError, AttributeError):
        return None  # the check of the folder names what is wrong
