"""Training samples as text, with the tokens that are targets."""

import argparse
from dataclasses import replace

from configs.command_line import exit_on_user_error, output_has_colours
from configs.errors import ConfigError, DataError, UserError
from configs.run import RunConfig
from data_prep.inspect import choose
from data_prep.sample import Sample
from data_prep.shards import ShardSet
from train.chat.conversation import IMAGE_INDEX, expand_image, highlight_targets
from train.data.collate import ExampleBuilder
from train.data.sources import SourceSet
from train.plan import make_plan


def print_samples(config: RunConfig, arguments: argparse.Namespace) -> None:
    """Print samples of one source, or of every source that is trained on. Exits with code 2 on a user's mistake."""
    try:
        names = (arguments.source,) if arguments.source else config.train.sources
        sets = [_open(config, name) for name in names]  # before the tokenizer: a wrong name fails at once
        builder = load_example_builder(config)
        for name, shards in zip(names, sets, strict=True):
            chosen = choose(shards, arguments.samples, arguments.seed, arguments.label, arguments.number)
            print(f"{name}: {len(chosen)} of {len(shards):,} samples")
            for number in chosen:
                image = with_image(shards, number)
                read = shards.sample if image and builder.needs_image_size else shards.record
                print(f"\n[{number}] {describe(read(number), builder, image)}")
            print()
    except UserError as error:
        exit_on_user_error(error)


def load_example_builder(config: RunConfig) -> ExampleBuilder:
    """The builder of a run on one process. Batching does not matter here, so the one that counts no tokens is used;
    samples that cannot be trained on are shown, too.
    """
    return make_plan(
        replace(config, train=replace(config.train, batching="padded", unreadable="skip")), 1, "cpu"
    ).example_builder


def with_image(shards: ShardSet, number: int) -> bool:
    """Whether a sample has an image, from the index."""
    return bool(shards.index["extension"][number])


def describe(sample: Sample, builder: ExampleBuilder, image: bool) -> str:
    """A sample as text: token counts, then all tokens in order, the supervised ones highlighted."""
    limit = builder.chat.max_length
    try:
        whole = builder.renderer.render(sample.turns)
        if whole.images != image:
            raise DataError(f"{whole.images} <image> placeholders, {int(image)} images")
        own = builder.family.image_token_id
        image_ids = [IMAGE_INDEX if token == own else token for token in builder.image_ids(sample)] if image else []
        kept = expand_image(whole, image_ids, limit)  # shown as <image xN>
        kept = builder.with_probe(sample, kept)
    except DataError as error:
        return f"{sample.id}\n    cannot be trained on: {error}"
    tokens, supervised = len(kept.input_ids), sum(kept.supervised)
    lost = len(whole.input_ids) + image * (len(image_ids) - 1) + (kept.probe is not None) - tokens
    parts = [f"{tokens:,} tokens", f"{supervised:,} supervised ({supervised / tokens:.0%})"]
    if image:
        parts.append(f"{len(image_ids):,} of the image")
    if lost:
        parts.append(f"cut at chat.max_length {limit:,}: {lost:,} more are lost")
    if not any(kept.supervised[1:]):
        parts.append(f"nothing is supervised (chat.no_target_tokens: {builder.chat.no_target_tokens})")
    text = highlight_targets(kept, builder.renderer.tokenizer, colour=output_has_colours())
    return f"{sample.id}\n    {', '.join(parts)}\n{text}"


def _open(config: RunConfig, name: str) -> ShardSet:
    if name not in config.data.sources:
        raise ConfigError(f"--source {name}: the sources of this config are {', '.join(config.data.sources)}")
    return SourceSet.of(config.data, (name,)).sets[0]
