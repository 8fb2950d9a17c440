# noqa: A005 - named for what a user types: python -m data_prep.inspect
"""Look into a shard set: `python -m data_prep.inspect shards/imagenet [--samples 5] [--sheet sheet.png] [--classes 20]`

Prints totals, samples as text (chosen by a seed, or by `--number`, `--label`), the class histogram and the drops;
`--sheet` draws the same samples as a PNG, each with number, id and label. How a model sees a sample is shown by
`train.tools.inspect`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from configs.command_line import at_least, command_parser, exit_on_user_error, output_file
from configs.errors import DataError, UserError
from configs.words import counted
from data_prep.byte_size import size
from data_prep.contact_sheet import contact_sheet
from data_prep.drops import describe_drops
from data_prep.image_notes import note_lines
from data_prep.images import image_size, true_extension
from data_prep.manifest import Manifest
from data_prep.sample import Sample
from data_prep.shards import ShardSet

BAR = 40  # characters of the longest bar


def main(argv: Sequence[str] | None = None) -> None:
    """Print what a shard set holds."""
    parser = command_parser(__doc__)
    parser.add_argument("folder", type=Path, help="folder of the set, such as shards/imagenet")
    parser.add_argument("--samples", type=at_least(0), default=3, metavar="N", help="how many samples (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="which samples (default 0)")
    parser.add_argument("--label", type=int, metavar="INDEX", help="only samples of this class")
    parser.add_argument("--number", type=int, metavar="I", help="exactly this sample")
    parser.add_argument(
        "--classes", type=int, default=10, metavar="N", help="classes shown at each end of the histogram"
    )
    parser.add_argument("--sheet", type=output_file, metavar="PNG", help="draw the samples into this file")
    arguments = parser.parse_args(argv)
    try:
        shards = ShardSet.open(arguments.folder)
        numbers = choose(shards, arguments.samples, arguments.seed, arguments.label, arguments.number)
        samples = [shards.sample(number) for number in numbers]
        print(totals(shards.manifest))
        for number, sample in zip(numbers, samples, strict=True):
            print(describe(sample, number))
        print(histogram(shards.manifest, arguments.classes))
        if arguments.sheet:
            contact_sheet(dict(zip(numbers, samples, strict=True))).save(arguments.sheet, format="PNG")
            print(f"{counted(len(samples), 'sample')} drawn into {arguments.sheet}", file=sys.stderr)
    except UserError as error:
        exit_on_user_error(error)


def choose(shards: ShardSet, count: int, seed: int, label: int | None, number: int | None) -> list[int]:
    """Numbers of at most `count` samples, chosen by `seed` among those of `label`. Raises `DataError` if none fits."""
    if number is not None:
        if not 0 <= number < len(shards):
            raise DataError(f"--number {number}: {shards.folder} has samples 0 to {len(shards) - 1}")
        return [number]
    candidates = np.arange(len(shards)) if label is None else np.flatnonzero(shards.labels == label)
    if len(candidates) == 0:
        raise DataError(f"{shards.folder} has no sample" + (f" of class {label}" if label is not None else ""))
    chosen = np.random.default_rng(seed).permutation(candidates)[:count]
    return sorted(int(index) for index in chosen)


def totals(manifest: Manifest) -> str:
    """The set in a few lines: source, sizes, identity, drops."""
    samples, shards = counted(manifest.samples, "sample"), counted(len(manifest.shards), "shard")
    lines = [
        f"{manifest.source}: {samples} of {counted(manifest.records, 'record')} in {shards}, {size(manifest.bytes)}; "
        f"reader {manifest.reader}, options {dict(manifest.options)}",
        f"fingerprint {manifest.fingerprint}",
    ]
    lines += [f"kept: {line}" for line in note_lines(manifest.notes)]
    return "\n".join(lines + [f"dropped: {line}" for line in describe_drops(manifest.drops)])


def describe(sample: Sample, number: int) -> str:
    """One sample as text."""
    image = "no image"
    if isinstance(sample.image, bytes):
        width, height = image_size(sample.image)
        image = f"{true_extension(sample.image)}, {width} x {height} pixels, {len(sample.image):,} bytes"
    lines = [f"\n[{number}] {sample.id}", f"    image: {image}"]
    if sample.label_name is not None:
        lines.append(f"    label: {sample.label} {sample.label_name}")
    lines += [f"    {turn.speaker}: {turn.text!r}" for turn in sample.turns]
    return "\n".join(lines + ([f"    meta: {dict(sample.meta)}"] if sample.meta else []))


def histogram(manifest: Manifest, classes: int) -> str:
    """Samples of the `classes` most and least frequent classes, as bars."""
    if not manifest.class_names:
        return "\nno classes"
    order = sorted(range(len(manifest.class_names)), key=lambda index: -manifest.histogram[index])
    most = max(manifest.histogram[order[0]], 1)
    shown = order if len(order) <= 2 * classes else [*order[:classes], None, *order[-classes:]]
    lines = [
        f"\n{counted(len(order), 'class')}, {sum(count == 0 for count in manifest.histogram)} of them without a sample"
    ]
    for index in shown:
        if index is None:
            lines.append(f"    ... {len(order) - 2 * classes} more")
        else:
            bar = "#" * round(BAR * manifest.histogram[index] / most)
            lines.append(f"    {index:5d} {manifest.class_names[index][:30]:30} {manifest.histogram[index]:8,} {bar}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
