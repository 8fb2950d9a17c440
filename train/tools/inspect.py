# noqa: A005 - named for what a user types: python -m train.tools.inspect
"""Prints samples as the model reads them.

`python -m train.tools.inspect --config configs/demo.yaml [--source NAME] [--samples 3]`

The samples are those that `data_prep.inspect` shows for the same `--seed`, `--label` or `--number`, rendered with the
tokenizer and the chat settings of a run. Supervised tokens are green, an image is shown as its number of tokens, and
each sample's token counts and truncation are printed. Needs no weights and no GPU.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from configs.command_line import add_base_model, config_of, config_parser, exit_on_user_error
from configs.errors import ConfigError, DataError, UserError
from configs.run import RunConfig
from data_prep.inspect import choose
from data_prep.sample import Sample
from data_prep.shards import ShardSet
from train.chat.conversation import IMAGE_INDEX, expand_image, highlight_targets
from train.data.collate import ExampleBuilder
from train.data.sources import SourceSet
from train.plan import make_plan


def main(argv: Sequence[str] | None = None) -> None:
    """Print samples of one source, or of every source that is trained on. Exits with code 2 on a user's mistake."""
    arguments = _parser().parse_args(argv)
    try:
        config = config_of(arguments, RunConfig)
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
    """A sample as text: token counts, then all tokens in order, the supervised ones in green."""
    limit = builder.chat.max_length
    try:
        whole = builder.renderer.render(sample.turns)
        if whole.images != image:
            raise DataError(f"{whole.images} <image> placeholders, {int(image)} images")
        own = builder.family.image_token_id
        image_ids = [IMAGE_INDEX if token == own else token for token in builder.image_ids(sample)] if image else []
        kept = expand_image(whole, image_ids, limit)  # shown as <image xN>
    except DataError as error:
        return f"{sample.id}\n    cannot be trained on: {error}"
    tokens, supervised = len(kept.input_ids), sum(kept.supervised)
    lost = len(whole.input_ids) + image * (len(image_ids) - 1) - tokens
    parts = [f"{tokens:,} tokens", f"{supervised:,} supervised ({supervised / tokens:.0%})"]
    if image:
        parts.append(f"{len(image_ids):,} of the image")
    if lost:
        parts.append(f"cut at chat.max_length {limit:,}: {lost:,} more are lost")
    if not any(kept.supervised[1:]):
        parts.append(f"nothing is supervised (chat.no_target_tokens: {builder.chat.no_target_tokens})")
    return f"{sample.id}\n    {', '.join(parts)}\n{highlight_targets(kept, builder.renderer.tokenizer)}"


def _open(config: RunConfig, name: str) -> ShardSet:
    if name not in config.data.sources:
        raise ConfigError(f"--source {name}: the sources of this config are {', '.join(config.data.sources)}")
    return SourceSet.of(config.data, (name,)).sets[0]


def _parser() -> argparse.ArgumentParser:
    parser = config_parser(__doc__, RunConfig)
    add_base_model(parser)
    parser.add_argument("--source", metavar="NAME", help="only this source (default: all of train.sources)")
    parser.add_argument("--samples", type=int, default=3, metavar="N", help="samples per source (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choice (default 0)")
    parser.add_argument("--label", type=int, metavar="INDEX", help="only samples of the class with this index")
    parser.add_argument("--number", type=int, metavar="I", help="only the sample with this number")
    return parser


if __name__ == "__main__":
    main()
