"""What an evaluation would ask, without a model: for `python -m eval.run --dry-run`."""

from configs.errors import DataError
from configs.schema import EvalConfig
from eval.items import Share, batches_of, chosen_items, open_source
from eval.places import place_of
from eval.protocols import make_protocol

SHOWN = 3  # questions


def preview(config: EvalConfig, share: Share) -> str:
    """Model, items, folder, and the first questions with what their answers are held against."""
    shards = open_source(config)
    items = chosen_items(shards.index["id_hash"].tolist(), config.limit)
    own = sum(map(len, batches_of(items, share, config.batch_size)))
    protocol = make_protocol(config.protocol)
    lines = [
        f"model       {config.model} (checkpoint: {config.checkpoint})",
        f"source      {config.source}: {len(items):,} of {len(shards):,} items, {own:,} for this worker",
        f"protocol    {config.protocol.kind}, answers of up to {config.protocol.max_new_tokens} tokens",
        f"answers in  {place_of(config).root}",
    ]
    for item in items[:SHOWN]:
        sample = shards.sample(item)
        try:
            question = protocol.question(sample)
        except DataError as error:
            lines.append(f"\n{sample.id}: cannot be asked: {error}")
            continue
        turns = "\n".join(f"  {turn.speaker}: {turn.text}" for turn in question.turns)
        prefix = f"\n  gpt: {config.protocol.answer_prefix} ..." if config.protocol.answer_prefix else ""
        lines.append(f"\n{sample.id}, right is {question.target!r}:\n{turns}{prefix}")
    return "\n".join(lines)
