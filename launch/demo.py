"""The paper's finding in miniature: runs the real commands one after the other and prints the results.

    python -m launch.demo            # minutes on two CPU cores
    python -m launch.demo --quick    # one seed, a few steps and questions: shows that everything works, not the finding

Shards -> projector-only training on classification alone and on the mix (2 ranks each, three training seeds) -> both
evaluations of the base model and of all results -> tables with mean and spread over the seeds, and `report.html`. This
program only starts the others.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from configs.command_line import command_parser, exit_on_user_error
from configs.errors import ConfigError, RunError, UserError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import RunDir
from launch import commands
from launch.preflight import run_folder
from launch.steps import run_steps

RANKS = 2
SEEDS = 3  # training seeds of each recipe
BASE = "base"
CLASSIFICATION = "demo_classification.yaml"  # in the folder of the mix's config
EVALUATIONS = ("demo_open_world.yaml", "demo_knowledge.yaml")  # in its sub-folder eval/
QUICK_TRAIN = ("train.max_steps=4",)
QUICK_EVAL = ("limit=16",)


@dataclass(frozen=True)
class Model:
    """A model that is evaluated: its name for eval.compare (`mix@1` is seed 1), and the folder of its evaluations."""

    name: str
    path: str
    evaluations: Path


@dataclass(frozen=True)
class Training:
    """One training: its name for eval.compare, its config, and what is set in it."""

    name: str
    config: Path
    settings: tuple[str, ...]

    @property
    def run(self) -> RunConfig:
        """The complete configuration."""
        loaded, _ = load_config(RunConfig, self.config, list(self.settings))
        return loaded


@dataclass(frozen=True)
class Demo:
    """The configs of the demo, the number of training seeds, and whether it is a quick run."""

    config: Path
    seeds: int
    quick: bool

    @property
    def trainings(self) -> list[Training]:
        """Both recipes with every seed: the config's own seed, whose run keeps its name, and those that follow it."""
        recipes = {"classification": self.config.with_name(CLASSIFICATION), "mix": self.config}
        return [self._training(name, config, i) for i in range(self.seeds) for name, config in recipes.items()]

    def _training(self, recipe: str, config: Path, number: int) -> Training:
        """Training `number` of a recipe. A quick run never touches the folder of a real one."""
        loaded, _ = load_config(RunConfig, config)
        seed = loaded.seed + number
        name = loaded.name + (f"-seed{seed}" if number else "") + ("-quick" if self.quick else "")
        settings = [f"seed={seed}"] if number else []
        settings += [f"name={name}"] if name != loaded.name else []
        return Training(f"{recipe}@{seed}", config, (*settings, *(QUICK_TRAIN if self.quick else ())))

    @property
    def evaluations(self) -> list[Path]:
        """The evaluation configs."""
        return [self.config.parent / "eval" / name for name in EVALUATIONS]

    @property
    def folder(self) -> Path:
        """The folder of the base model's evaluations and of the comparison."""
        run, _ = load_config(RunConfig, self.config)
        return run_folder(run).root.with_name("demo_report-quick" if self.quick else "demo_report")

    @property
    def models(self) -> list[Model]:
        """The untouched base and all results, those of one recipe together."""
        run, _ = load_config(RunConfig, self.config)
        base = Model(BASE, run.model.base, RunDir(self.folder / "base").evaluation("any").parent)
        runs = {training.name: run_folder(training.run) for training in sorted(self.trainings, key=_recipe)}
        return [base, *(Model(name, str(run.root), run.evaluation("any").parent) for name, run in runs.items())]


def _recipe(training: Training) -> str:
    return training.name.partition("@")[0]


def steps(demo: Demo) -> Iterator[list[list[str]]]:
    """The steps of the demo in order; the commands of one step run at the same time."""
    python, deepspeed = sys.executable, str(Path(sys.executable).with_name("deepspeed"))
    yield [commands.data_prep(python, demo.config)]
    for training in demo.trainings:
        yield [commands.finetune_local(deepspeed, training.config, training.settings, RANKS)]
    for model in demo.models:
        yield [_evaluation(demo, model, config, python) for config in demo.evaluations]
    folders = {model.name: model.evaluations for model in demo.models}
    yield [commands.compare(python, demo.folder, folders)]


def _evaluation(demo: Demo, model: Model, config: Path, python: str) -> list[str]:
    settings = [f"model={model.path}", *(QUICK_EVAL if demo.quick else ())]
    if model.name == BASE:  # it has no run folder for its predictions
        name = load_config(EvalConfig, config, settings)[0].name
        settings.append(f"output={model.evaluations / name}")
    return commands.evaluate(python, config, settings)


def main() -> None:
    """Run all steps; the last one prints the tables."""
    parser = command_parser(__doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"), help="config of the mix run")
    parser.add_argument("--seeds", type=int, help="number of training seeds (default: 3; with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="a few steps and questions; the numbers mean nothing")
    arguments = parser.parse_args()
    start = time.monotonic()
    try:
        if problem := commands.working_directory_problem():
            raise RunError(problem)
        seeds = (1 if arguments.quick else SEEDS) if arguments.seeds is None else arguments.seeds
        if seeds < 1:
            raise ConfigError(f"--seeds is {seeds}; give 1 or more")
        demo = Demo(arguments.config, seeds, arguments.quick)
        run_steps(list(steps(demo)), "demo")
    except UserError as error:
        exit_on_user_error(error)
    print(f"\nthe demo took {time.monotonic() - start:.0f} s; its report is {EvalDir(demo.folder).report('html')}")


if __name__ == "__main__":
    main()
