"""One command from a folder of photographs to a fine-tuned model and a report: build, train, evaluate, compare.

    python -m launch.quickstart my_photos               LLaVA-1.5-7B where there is a GPU, else the shipped small model
    python -m launch.quickstart my_photos --dry-run     check the photographs, and print the plan and the commands
    python -m launch.quickstart my_photos --base llava-1.5-7b --set train.epochs=3
    python -m launch.quickstart my_photos --rebuild     after photographs were added or removed: train again

The folder has one sub-folder a class (its name is the answer), or `train` and `test` with such sub-folders each.
Without these, a fifth of each class is kept for the test. Photographs that cannot be read are left out and listed, up
to a tenth of all. Every step is a command of this project, printed before it runs; the same command continues after an
interruption.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import yaml

from configs.base_models import TINY, base_model_overrides
from configs.command_line import add_base_model, add_dry_run, add_overrides, command_parser, exit_on_user_error
from configs.errors import RunError, UserError
from configs.eval_dir import EvalDir
from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import RunDir
from configs.section import check_name
from configs.words import counted
from launch import commands
from launch.collection import Collection, record_of
from launch.photo_folder import Photos, folder_of, natural_count
from launch.photo_survey import LEFT_OUT, Survey, survey
from launch.preflight import run_folder
from launch.quickstart_result import result_lines, unwritable
from launch.run_name import name_of
from launch.small_folder import FEW, Fitted, fit
from launch.steps import Step, run_steps, typed
from launch.writable_names import rename_settings, writable_names

CONFIG, EVALUATION = Path("configs/image_folder.yaml"), Path("configs/eval/image_folder.yaml")
EVALUATION_NAME = "image_folder_open_world"  # of that evaluation
LARGE = "llava-1.5-7b"
IMAGES_PER_SECOND = 23.4  # LLaVA-1.5-7B, projector only, measured on one H100 80GB (docs/performance.md)
TINY_PER_SECOND = 85  # the small model on 2 CPU cores, measured (docs/data.md)
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Quickstart:
    """What is run: the photographs, the base model's name, and further settings of the training."""

    photos: Photos
    base: str
    name: str
    settings: tuple[str, ...]
    ranks: int
    fitted: tuple[str, ...] = ()

    @property
    def overrides(self) -> list[str]:
        """Settings of data and training; the build drops what cannot be read, since the survey has counted it."""
        named = [setting("name", self.name), f"data.shards=shards/{self.name}", *source_settings(self.photos)]
        return [*named, *self.fitted, *self.settings, "data.max_drop_fraction=1.0"]

    @cached_property
    def config(self) -> RunConfig:
        """The complete configuration. Raises `ConfigError` for a mistake in the settings."""
        return self._load(self.overrides)

    @property
    def limit(self) -> float:
        """Largest share of photographs that is left out."""
        own = [text for text in self.settings if text.startswith("data.max_drop_fraction=")]
        return self._load([*self.overrides, *own]).data.max_drop_fraction if own else LEFT_OUT

    def _load(self, overrides: list[str]) -> RunConfig:
        return load_config(RunConfig, CONFIG, [*base_model_overrides(self.base), *overrides])[0]

    def fit(self, samples: int) -> tuple["Quickstart", Fitted]:
        """The same with the settings that fit `samples` training photographs."""
        fitted = fit(self.config.train, samples, self.ranks, self.base, self.settings)
        return replace(self, fitted=fitted.settings, ranks=fitted.ranks), fitted

    def with_writable_names(self, seen: Survey) -> tuple["Quickstart", Survey, list[str]]:
        """The same with other names for classes whose own the base model cannot write, and a note about each."""
        names = writable_names(Path(self.config.model.base), seen.classes)
        settings = rename_settings(names, {part: content.counts for part, content in seen.parts.items()})
        notes = [
            f"class {name!r} is called {new!r}: the base model cannot write its name" for name, new in names.items()
        ]
        return replace(self, fitted=(*self.fitted, *settings)), seen.renamed(names), notes

    @property
    def collection(self) -> Collection:
        """The folders of shards and run."""
        return Collection(self.name, Path(self.config.data.shards), self.run)

    @property
    def run(self) -> RunDir:
        """The run's folder."""
        return run_folder(self.config)

    @property
    def comparison(self) -> EvalDir:
        """The comparison of base and fine-tuned model."""
        return EvalDir(self.run.root / "comparison")

    def steps(self, *, rebuild: bool = False) -> list[Step]:
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
        replaced = (
            ("--rebuild",) if rebuild or not self.collection.trained else ()
        )  # shards of the same photographs are kept
        return [
            [[*commands.data_prep(python, CONFIG, overrides=self.overrides), *chosen, *replaced]],
            [[*commands.finetune_local(deepspeed, CONFIG, self.overrides, self.ranks), *chosen]],
            [commands.evaluate(python, EVALUATION, [f"model={self.run.root}"])],
            [commands.evaluate(python, EVALUATION, of_base)],
            [commands.compare(python, self.comparison.root, models)],
        ]


def describe(plan: Quickstart, seen: Survey, notes: Sequence[str]) -> str:
    """What will be run, on how many photographs, and what the model costs."""
    lines = [
        f"classes     {natural_count(seen.classes)}",
        f"images      {seen.count('train'):,} for training, {seen.count('test'):,} for the test",
        f"base        {plan.base} ({plan.config.model.base}), trained: {plan.config.model.mode}",
        f"ranks       {plan.ranks}",
    ]
    lines += [f"left out    {line}" for line in seen.left_out_lines()]
    lines += [f"warning     {warning}" for warning in seen.warnings()]
    lines += [f"warning     {text}"] if (text := unwritable(seen, plan.config)) else []
    lines += [f"fitted      {note}" for note in notes]
    fewest = min(filter(None, seen.parts["train"].counts.values()))
    if fewest < FEW:
        lines.append(
            f"warning     a class has {counted(fewest, 'training photograph')}; with fewer than {FEW} the result means "
            "little"
        )
    lines.append(f"cost        {_cost(plan, seen)}")
    if plan.base == TINY:
        lines.append(
            "note        this model of 1.4 million parameters shows that your data work, not what LLaVA can do"
        )
    return "\n".join([*lines, f"writes      {plan.config.data.shards}, {plan.run.root} (another name: --name NAME)"])


def _cost(plan: Quickstart, seen: Survey) -> str:
    images = seen.count("train") * plan.config.train.epochs
    passes = f"{seen.count('train'):,} photographs x {plan.config.train.epochs:,} epochs"
    if plan.base == TINY:
        minutes = images / TINY_PER_SECOND / 60
        return (
            f"training takes about {max(1, round(minutes)):,} min on 2 free CPU cores ({passes}, counted from "
            f"{TINY_PER_SECOND} images/s), the other steps 1 to 2 min"
        )
    if plan.base != LARGE:
        return f"not known for this base: {passes}"
    return (
        f"a download of 13.2 GiB, 53.8 GiB of GPU memory at micro-batch 16; training takes "
        f"{max(1, round(images / IMAGES_PER_SECOND / 60)):,} minutes on one H100 ({passes}, counted from "
        f"{IMAGES_PER_SECOND} images/s)"
    )


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


def source_settings(photos: Photos) -> list[str]:
    """The sources as settings of `configs/image_folder.yaml`."""
    paths = [setting(f"data.sources.{part}.path", str(photos.path(part))) for part in ("train", "test")]
    parts = [f"data.sources.{part}.options.part={part}" for part in ("train", "test")] if photos.divided else []
    return paths + parts


def plan_of(folder: Path, base: str | None, name: str | None, settings: Sequence[str]) -> Quickstart:
    """The plan for `folder` on this machine. Raises `ConfigError` for a mistake in an argument."""
    if name is not None:
        check_name(name, "--name")
    photos, gpus = Photos.of(folder), count_gpus()
    ranks = gpus or min(2, len(os.sched_getaffinity(0)))
    base = base or (LARGE if gpus else TINY)
    return Quickstart(photos, base, name or name_of(folder), tuple(settings), ranks)


def enter_root(folder: Path, base: str | None) -> tuple[Path, str | None]:
    """Folder and base as they are found from the root of the repository, which becomes the working directory.

    Raises `RunError` if the program is not installed from a repository.
    """
    problem = commands.working_directory_problem()
    if problem is None:
        return folder, base
    if not (ROOT / "pyproject.toml").is_file() or not (ROOT / commands.FINETUNE).is_file():
        raise RunError(f"{problem}, the folder that has configs/ and train/: cd to it first")
    folder, base = folder.absolute(), str(Path(base).absolute()) if base and Path(base).is_dir() else base
    os.chdir(ROOT)
    print(f"in          {ROOT}")
    return folder, base


def run_plan(plan: Quickstart, seen: Survey) -> Survey:
    """Run all steps; returns what the build left out too. Raises `DataError` if that is too much."""
    steps = plan.steps()
    if seen.decoded:
        run_steps(steps, "quickstart")
        return seen
    run_steps(steps[:1], "quickstart: build")
    built = seen.built(plan.collection.shards)
    built.check(plan.limit)
    run_steps(steps[1:], "quickstart")
    return built


def main() -> None:
    """Plan, print the plan, run the steps, show the report."""
    parser = command_parser(__doc__)
    parser.add_argument("folder", help="a folder with one sub-folder of photographs for each class")
    parser.add_argument("more", nargs="*", help=argparse.SUPPRESS)  # of a name with spaces, written without quotes
    add_base_model(parser)
    parser.add_argument("--name", help="name of the run and of its shards (default: that of the folder)")
    add_overrides(parser, "a setting of the training")
    parser.add_argument(
        "--rebuild", action="store_true", help="train again on the folder as it is now; an earlier run is kept aside"
    )
    parser.add_argument("--no-open", action="store_true", help="do not open the report in a browser at the end")
    add_dry_run(parser, "the plan and the commands")
    arguments = parser.parse_args()
    start = time.monotonic()
    try:
        folder, base = enter_root(folder_of([arguments.folder], arguments.more), arguments.base_model)
        plan = plan_of(folder, base, arguments.name, arguments.overrides)
        seen = survey(plan.photos, plan.config.data)
        seen.check(plan.limit)
        plan, fitted = plan.fit(seen.count("train"))
        plan, seen, renames = plan.with_writable_names(seen)
        now = record_of(folder, seen.content, (seen.readable, len(seen.classes)), plan.config)
        plan.collection.check(now, rebuild=arguments.rebuild)
        print(describe(plan, seen, [*fitted.notes, *renames]), flush=True)
        if arguments.dry_run:
            print("\n".join(["", *(typed(argv) for step in plan.steps(rebuild=arguments.rebuild) for argv in step)]))
            return
        if moved := plan.collection.prepare(now, rebuild=arguments.rebuild):
            print(f"note        {moved}", flush=True)
        seen = run_plan(plan, seen)
        page = plan.comparison.report("html").resolve()
        print(f"\ndone in {time.monotonic() - start:.0f} s. The report: {page}\nThe model: {plan.run.export}")
        report = EvalDir(plan.run.evaluation(EVALUATION_NAME) / "export")
        print("\n".join(result_lines(seen, plan.config, report, plan.collection.shards, plan.run)))
    except UserError as error:
        exit_on_user_error(error)
    if not arguments.no_open and sys.stdout.isatty() and (os.environ.get("DISPLAY") or sys.platform == "darwin"):
        webbrowser.open(page.as_uri())


if __name__ == "__main__":
    main()
