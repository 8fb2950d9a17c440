"""One command from a folder of photographs to a fine-tuned model and a report: build, train, evaluate, compare.

    python -m launch.quickstart my_photos               LLaVA-1.5-7B where there is a GPU, else the shipped small model
    python -m launch.quickstart my_photos --dry-run     only print the commands
    python -m launch.quickstart my_photos --base llava-1.5-7b --set train.epochs=3

The folder has one sub-folder a class (its name is the answer), or `train` and `test` with such sub-folders each.
Without these, a fifth of each class is kept for the test. Every step is a command of this project, printed before it
runs; the same command continues after an interruption.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from configs.base_models import TINY, base_model_overrides
from configs.command_line import add_base_model, add_dry_run, add_overrides, command_parser, exit_on_user_error
from configs.errors import ConfigError, DataError, RunError, UserError
from configs.eval_dir import EvalDir
from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import RunDir
from data_prep.drops import describe_drops
from data_prep.readers import image_folder
from data_prep.records import Record
from data_prep.sample import Drop, Sample, Source
from launch import commands
from launch.preflight import run_folder
from launch.steps import Step, run_steps, typed

CONFIG, EVALUATION = Path("configs/image_folder.yaml"), Path("configs/eval/image_folder.yaml")
LARGE = "llava-1.5-7b"
TRAIN, TEST = ("train", "training"), ("test", "testing", "val", "validation")  # names of parts, in any case
IMAGES_PER_SECOND = 23.4  # LLaVA-1.5-7B, projector only, measured on one H100 80GB (docs/performance.md)


@dataclass(frozen=True)
class Photos:
    """The training and the test source: the path of each and the options of its reader."""

    train: Path
    test: Path
    divided: bool  # one folder for both

    @classmethod
    def of(cls, folder: Path) -> "Photos":
        """The sources in `folder`. Raises `ConfigError` if there is none."""
        if not folder.is_dir():
            raise ConfigError(f"no folder {folder}; give a folder with one sub-folder of photographs for each class")
        parts = {found.name.lower(): found for found in folder.iterdir() if found.is_dir()}
        train, test = (next((parts[name] for name in names if name in parts), None) for names in (TRAIN, TEST))
        if train and test:
            return cls(train, test, divided=False)
        return cls(folder, folder, divided=True)

    def read(self, part: str) -> Source:
        """The records of a part. Raises `DataError` or `ConfigError` if a folder cannot be read as classes."""
        return image_folder.read(self.train if part == "train" else self.test, part=part if self.divided else None)

    @property
    def settings(self) -> list[str]:
        """The sources as settings of `configs/image_folder.yaml`."""
        folders = {"train": self.train, "test": self.test}
        paths = [setting(f"data.sources.{part}.path", str(folder)) for part, folder in folders.items()]
        parts = [f"data.sources.{part}.options.part={part}" for part in ("train", "test")] if self.divided else []
        return paths + parts


@dataclass(frozen=True)
class Quickstart:
    """What is run: the photographs, the base model's name, and further settings of the training."""

    photos: Photos
    base: str
    name: str
    settings: tuple[str, ...]
    ranks: int

    @property
    def overrides(self) -> list[str]:
        """Settings of data and training."""
        return [setting("name", self.name), f"data.shards=shards/{self.name}", *self.photos.settings, *self.settings]

    @cached_property
    def config(self) -> RunConfig:
        """The complete configuration. Raises `ConfigError` for a mistake in the settings."""
        return load_config(RunConfig, CONFIG, [*base_model_overrides(self.base), *self.overrides])[0]

    @property
    def run(self) -> RunDir:
        """The run's folder."""
        return run_folder(self.config)

    @property
    def comparison(self) -> EvalDir:
        """The comparison of base and fine-tuned model."""
        return EvalDir(self.run.root / "comparison")

    def steps(self) -> list[Step]:
        """Build, train, evaluate the trained model and the base, compare."""
        python, deepspeed = sys.executable, str(Path(sys.executable).with_name("deepspeed"))
        base_answers = self.comparison.root / "base"
        of_base = [
            f"model={self.config.model.base}",
            f"data_from={self.run.root}",
            f"output={base_answers / EVALUATION.stem}",
        ]
        models = {"base": base_answers, "fine-tuned": self.run.evaluations}
        chosen = ("--base", self.base)
        return [
            [[*commands.data_prep(python, CONFIG, overrides=self.overrides), *chosen]],
            [[*commands.finetune_local(deepspeed, CONFIG, self.overrides, self.ranks), *chosen]],
            [commands.evaluate(python, EVALUATION, [f"model={self.run.root}"])],
            [commands.evaluate(python, EVALUATION, of_base)],
            [commands.compare(python, self.comparison.root, models)],
        ]


def describe(plan: Quickstart, train: Source, test: Source) -> str:
    """What will be run, on how many images, and what the model costs."""
    records = list(train.records), list(test.records)
    counts = [sum(isinstance(record, Sample) for record in part) for part in records]
    dropped = [record for part in records for record in part if isinstance(record, Drop)]
    lines = [
        f"classes     {len(train.class_names):,}: {', '.join(train.class_names[:6])}"
        + (", …" if len(train.class_names) > 6 else ""),
        f"images      {counts[0]:,} for training, {counts[1]:,} for the test",
        f"base        {plan.base} ({plan.config.model.base}), trained: {plan.config.model.mode}",
        f"ranks       {plan.ranks}",
    ]
    lines += [f"not read    {line}" for line in describe_drops(dropped)]
    lines += [f"warning     {warning}" for warning in _warnings(train, records[0])]
    if plan.base == LARGE:
        seconds = counts[0] * plan.config.train.epochs / IMAGES_PER_SECOND
        lines.append(
            f"cost        a download of 13.2 GiB, 53.8 GiB of GPU memory at micro-batch 16; training takes "
            f"{max(1, round(seconds / 60)):,} minutes on one H100 (counted from {IMAGES_PER_SECOND} images/s)"
        )
    if plan.base == TINY:
        lines.append(
            "note        this model of 1.4 million parameters shows that your data work, not what LLaVA can do"
        )
    return "\n".join([*lines, f"writes      shards/{plan.name}, {plan.run.root}"])


def _warnings(train: Source, records: Sequence[Record]) -> Iterator[str]:
    """What the reader noticed, and classes without an image."""
    yield from train.notes
    seen = {record.label_name for record in records if isinstance(record, Sample)}
    if empty := [name for name in train.class_names if name not in seen]:
        yield f"no image for the training in {', '.join(empty[:3])}{', ...' if len(empty) > 3 else ''}"


def count_gpus() -> int:
    """NVIDIA GPUs of this machine; 0 without the driver's program. torch is not imported."""
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0


def setting(key: str, text: str) -> str:
    """A setting that is the text as it is written; quoted where YAML reads a number, a date, a mapping or a comment.

    >>> setting("name", "photos"), setting("name", "2023_05"), setting("name", "2024: Photos #1")
    ('name=photos', 'name="2023_05"', 'name="2024: Photos #1"')
    """
    try:
        read = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # ValueError: a date that no calendar has
        read = None
    return f"{key}={text if read == text else json.dumps(text, ensure_ascii=False)}"


def name_of(folder: Path) -> str:
    """A run's name from the name of a folder.

    >>> name_of(Path("/data/My Photos!"))
    'my_photos'
    """
    return re.sub(r"\W+", "_", folder.resolve().name.lower()).strip("_") or "quickstart"


def plan_of(folder: Path, base: str | None, name: str | None, settings: Sequence[str]) -> Quickstart:
    """The plan for `folder` on this machine. Raises `ConfigError` for a mistake in an argument."""
    gpus = count_gpus()
    ranks = gpus or min(2, len(os.sched_getaffinity(0)))
    base = base or (LARGE if gpus else TINY)
    return Quickstart(Photos.of(folder), base, name or name_of(folder), tuple(settings), ranks)


def main() -> None:
    """Plan, print the plan, run the steps, show the report."""
    parser = command_parser(__doc__)
    parser.add_argument("folder", type=Path, help="a folder with one sub-folder of photographs for each class")
    add_base_model(parser)
    parser.add_argument("--name", help="name of the run and of its shards (default: that of the folder)")
    add_overrides(parser, "a setting of the training")
    parser.add_argument("--no-open", action="store_true", help="do not open the report in a browser at the end")
    add_dry_run(parser, "the commands")
    arguments = parser.parse_args()
    start = time.monotonic()
    try:
        if problem := commands.working_directory_problem():
            raise RunError(problem)
        plan = plan_of(arguments.folder, arguments.base_model, arguments.name, arguments.overrides)
        train, test = plan.photos.read("train"), plan.photos.read("test")
        if len(train.class_names) < 2:
            raise DataError(f"{plan.photos.train} has one class, {train.class_names[0]}; two or more can be told apart")
        print(describe(plan, train, test), flush=True)
        if arguments.dry_run:
            print("\n".join(["", *(typed(argv) for step in plan.steps() for argv in step)]))
            return
        run_steps(plan.steps(), "quickstart")
    except UserError as error:
        exit_on_user_error(error)
    page = plan.comparison.report("html").resolve()
    print(f"\ndone in {time.monotonic() - start:.0f} s. The report: {page}\nThe model: {plan.run.export}")
    if not arguments.no_open and sys.stdout.isatty() and (os.environ.get("DISPLAY") or sys.platform == "darwin"):
        webbrowser.open(page.as_uri())


if __name__ == "__main__":
    main()
