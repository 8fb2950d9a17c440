"""Speed of writing and reading shards, against webdataset: `python -m data_prep.benchmarks.shards build|read|all`

Both run in turns in this process, on one thread, with the same images. CPU seconds are measured; the best round counts.

- `build`: files to a finished set (reader, checks, sha256, index, manifest), compared with `webdataset.TarWriter`,
  which gets the same files (or their bytes from memory, which is faster) and the records as bytes. Also with full
  decoding, and two processes compared with one.
- `read`: every sample in random order, with checksum and parsed record, compared with `webdataset.WebDataset`, which
  reads the same tars sequentially and returns raw bytes.

Pixels are measured by `python -m train.benchmarks.pixels`.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from configs.command_line import add_json, at_least, command_parser, emit_json
from configs.data import DataConfig, SourceConfig
from configs.shard_dir import ShardDir
from data_prep.benchmarks.timing import best_cpu_seconds, made_jpeg
from data_prep.finalise import finalise
from data_prep.registry import open_source
from data_prep.shards import ShardSet
from data_prep.sidecar import Recipe
from data_prep.workers import Job, build_parts

GOALS = {"build": 1.0, "two_processes": 1.8, "read": 2.0}
Figures = dict[str, float]
Sides = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Case:
    """`images` JPEGs whose longer side has `side` pixels, in shards of `images / 4`."""

    name: str
    images: int
    side: int


CASES = (Case("110KB", 2000, 500), Case("6KB", 10_000, 96))


def main(argv: Sequence[str] | None = None) -> None:
    """Print rates and ratios of the chosen benchmarks; exit with 1 if one is below its goal."""
    parser = command_parser(__doc__)
    parser.add_argument("what", choices=("build", "read", "all"), nargs="?", default="all", help="what is measured")
    parser.add_argument("--folder", type=Path, help="where to work (default: the system's temporary folder)")
    parser.add_argument("--rounds", type=at_least(1), default=4, help="rounds; the best counts (default 4)")
    parser.add_argument("--images", type=at_least(4), help="images of each size (default 2000 large, 10000 small)")
    add_json(parser, "the figures")
    arguments = parser.parse_args(argv)
    figures: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        cases = [replace(case, images=arguments.images or case.images) for case in CASES]
        benches = [Bench(case, Path(folder) / case.name) for case in cases]
        if arguments.what != "read":  # before webdataset has imported torch: a build does not fork such a process
            figures |= {f"scale {bench.case.name}": bench.scale(arguments.rounds) for bench in benches}
            figures |= {f"build {bench.case.name}": bench.build(arguments.rounds) for bench in benches}
        if arguments.what != "build":
            figures |= {f"read {bench.case.name}": bench.read(arguments.rounds) for bench in benches}
    if not emit_json(arguments.json, figures):
        print("\n".join(_lines(figures)))
    raise SystemExit(0 if all(ratio >= goal for _, _, ratio, goal in _goals_of(figures)) else 1)


class Bench:
    """One case in one folder: its raw images and the shards written from them."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case = case
        self.raw, self.ours, self.theirs = folder / "raw", folder / "ours", folder / "theirs"
        (self.raw / "shape").mkdir(parents=True)
        pictures = [made_jpeg(seed, case.side) for seed in range(20)]
        self.files = [self.raw / "shape" / f"{number:06d}.jpg" for number in range(case.images)]
        for number, file in enumerate(self.files):
            file.write_bytes(pictures[number % len(pictures)])

    def scale(self, rounds: int) -> Figures:
        """Images per second of two processes, each on its own core, and the ratio to one process."""
        sides: Sides = {"one": self.write, "two": partial(self.write, processes=2)}
        seconds = best_cpu_seconds(sides, rounds, self._clear)
        return {
            "one_process_images_per_second": self.case.images / seconds["one"],
            "two_processes_images_per_second": 2 * self.case.images / seconds["two"],
            "two_processes_ratio": 2 * seconds["one"] / seconds["two"],
        }

    def build(self, rounds: int) -> Figures:
        """Images per CPU second of each way to write, and the ratios."""
        self._clear()
        texts = [text.encode() for text in _record_texts(self.write())]
        sides: Sides = {
            "webdataset": partial(self._write_webdataset, texts),
            "webdataset_from_memory": partial(
                self._write_webdataset, texts, [file.read_bytes() for file in self.files]
            ),
            "ours": self.write,
            "ours_decoding": partial(self.write, decode=True),
        }
        seconds = best_cpu_seconds(sides, rounds, self._clear)
        figures = {f"{name}_images_per_second": self.case.images / seconds[name] for name in sides}
        figures["build_ratio"] = seconds["webdataset"] / seconds["ours"]
        figures["from_memory_ratio"] = seconds["webdataset_from_memory"] / seconds["ours"]
        figures["decoding_ratio"] = seconds["webdataset"] / seconds["ours_decoding"]
        return figures

    def read(self, rounds: int) -> Figures:
        """Samples per CPU second of each way to read, and the ratio."""
        self._clear()
        shards = self.write()
        order = np.random.default_rng(0).permutation(len(shards)).tolist()
        sides = {
            "webdataset": partial(
                _read_webdataset, [str(shards.folder / entry.name) for entry in shards.manifest.shards]
            ),
            "ours": partial(_read_samples, shards, order),
        }
        seconds = best_cpu_seconds(sides, rounds)
        figures = {f"{name}_samples_per_second": len(shards) / seconds[name] for name in sides}
        figures["read_ratio"] = seconds["webdataset"] / seconds["ours"]
        return figures

    def write(self, *, decode: bool = False, processes: int = 1) -> ShardSet:
        """The whole build, as in `data_prep.build`."""
        config = SourceConfig(reader="image_folder", path=str(self.raw))
        per_shard = self.case.images // 4
        data = DataConfig(samples_per_shard=per_shard, decode_check=decode, sources={"shapes": config})
        source = open_source(data, "shapes")
        recipe, folder = Recipe.of("shapes", data, source), ShardDir(self.ours)
        folder.root.mkdir(exist_ok=True)
        job = Job(folder=folder, recipe=recipe, source=source)
        outcome = build_parts(job, list(range(processes)), processes, _ignore_progress)
        finalise(job, outcome.records, data.max_drop_fraction)
        return ShardSet.open(folder.root)

    def _write_webdataset(self, texts: Sequence[bytes], images: Sequence[bytes] | None = None) -> None:
        """Write the same members; with `images` webdataset does not have to read the files, which ours always does."""
        import webdataset  # imports torch, which no other module of data_prep needs

        self.theirs.mkdir()
        size = self.case.images // 4
        for start in range(0, len(self.files), size):
            with webdataset.TarWriter(str(self.theirs / f"{start:06d}.tar")) as writer:
                for number in range(start, min(start + size, len(self.files))):
                    image = images[number] if images else self.files[number].read_bytes()
                    writer.write({"__key__": f"{number:09d}", "jpg": image, "json": texts[number]})

    def _clear(self) -> None:
        for folder in (self.ours, self.theirs):
            shutil.rmtree(folder, ignore_errors=True)


def _record_texts(shards: ShardSet) -> list[str]:
    return [shards.sample(number).to_json() for number in range(len(shards))]


def _ignore_progress(_records: int, _drops: int) -> None:
    """Ignores the progress of a build."""


def _read_samples(shards: ShardSet, order: Sequence[int]) -> None:
    for number in order:
        shards.sample(number)


def _read_webdataset(tars: Sequence[str]) -> None:
    import webdataset  # as in _write_webdataset

    for _ in webdataset.WebDataset(list(tars), shardshuffle=False):
        pass


def _goals_of(figures: dict[str, Figures]) -> list[tuple[str, str, float, float]]:
    """(benchmark, figure, ratio, goal) of every figure that has a goal."""
    return [
        (name, goal, values[f"{goal}_ratio"], GOALS[goal])
        for name, values in figures.items()
        for goal in GOALS
        if f"{goal}_ratio" in values
    ]


def _lines(figures: dict[str, Figures]) -> list[str]:
    lines = ["one core, CPU seconds, best round"]
    for name, values in figures.items():
        lines += [f"{name:12}{key:40}{value:10,.0f}" for key, value in values.items() if key.endswith("per_second")]
        lines += [f"{name:12}{key:40}{value:10.2f}" for key, value in values.items() if key.endswith("ratio")]
    return lines + [f"{name}: {key} {ratio:.2f}x, goal {goal}x" for name, key, ratio, goal in _goals_of(figures)]


if __name__ == "__main__":
    main()
