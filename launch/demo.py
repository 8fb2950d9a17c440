"""The paper's finding in miniature: runs the real commands one after the other and prints the results.

    python -m launch.demo            # minutes on two CPU cores
    python -m launch.demo --quick    # a few steps and questions: shows that everything works, the numbers mean nothing

Shards -> projector-only training on classification alone and on the mix (2 ranks each) -> both evaluations of the base
model and of both results -> one table and `report.html`. This program only starts the others.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from configs.command_line import command_parser, exit_on_user_error
from configs.errors import RunError, UserError
from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import EvalDir, RunDir
from launch import commands
from launch.preflight import run_folder

RANKS = 2
BASE = "base"
CLASSIFICATION = "demo_classification.yaml"  # beside the config of the mix
EVALUATIONS = ("demo_open_world.yaml", "demo_knowledge.yaml")  # in eval/ beside it
QUICK_TRAIN = ("train.max_steps=4",)
QUICK_EVAL = ("limit=16",)


@dataclass(frozen=True)
class Model:
    """A model that the demo evaluates: its name in the table, and the folder of its evaluations."""

    name: str
    path: str
    evaluations: Path


@dataclass(frozen=True)
class Demo:
    """The configs of the demo, and whether it is a quick run."""

    config: Path
    quick: bool

    @property
    def trained(self) -> dict[str, Path]:
        """The two training configs by the name of their result."""
        return {"classification": self.config.with_name(CLASSIFICATION), "mix": self.config}

    @property
    def evaluations(self) -> list[Path]:
        """The evaluation configs."""
        return [self.config.parent / "eval" / name for name in EVALUATIONS]

    def run(self, config: Path) -> RunConfig:
        """The training config in `config`, with the changes of a quick run."""
        loaded, _ = load_config(RunConfig, config, self.training_settings(config))
        return loaded

    def training_settings(self, config: Path) -> list[str]:
        """The `--set` values of a training: a quick run never touches the folder of a real one."""
        if not self.quick:
            return []
        name = load_config(RunConfig, config)[0].name
        return [f"name={name}-quick", *QUICK_TRAIN]

    @property
    def folder(self) -> Path:
        """The folder of the base model's evaluations and of the comparison."""
        mix = run_folder(self.run(self.config)).root
        return mix.with_name("demo_report-quick" if self.quick else "demo_report")

    @property
    def models(self) -> list[Model]:
        """The untouched base and the two results."""
        base = Model(BASE, self.run(self.config).model.base, RunDir(self.folder / "base").evaluations)
        runs = {name: run_folder(self.run(config)) for name, config in self.trained.items()}
        return [
            base,
            *(Model(name, str(run.root), run.evaluations) for name, run in runs.items()),
        ]


def steps(demo: Demo) -> Iterator[list[str]]:
    """The commands of the demo in order."""
    python, deepspeed = sys.executable, str(Path(sys.executable).with_name("deepspeed"))
    yield commands.data_prep(python, demo.config)
    for config in demo.trained.values():
        yield commands.finetune_local(deepspeed, config, demo.training_settings(config), RANKS)
    for model in demo.models:
        for config in demo.evaluations:
            settings = [f"model={model.path}", *(QUICK_EVAL if demo.quick else ())]
            yield commands.evaluate(python, config, [*settings, *_output(model, config)])
    yield comparison(demo, python)


def _output(model: Model, config: Path) -> list[str]:
    """The output setting of an evaluation, for a model without a run folder."""
    if model.name != BASE:
        return []
    name = load_config(EvalConfig, config, [f"model={model.path}"])[0].name
    return [f"output={model.evaluations / name}"]


def comparison(demo: Demo, python: str) -> list[str]:
    """The command that compares the models: it prints the table and writes the report."""
    return commands.compare(python, demo.folder, {model.name: model.evaluations for model in demo.models})


def run_step(argv: list[str]) -> None:
    """Print the command as one would type it, run it, print its time; exit with its exit code if it fails."""
    deepspeed = str(Path(sys.executable).with_name("deepspeed"))
    print(f"\n$ {commands.as_typed(argv, python=sys.executable, deepspeed=deepspeed)}", flush=True)
    start = time.monotonic()
    code = subprocess.run(argv, check=False).returncode
    print(f"[{time.monotonic() - start:.1f} s]", flush=True)
    if code:
        print(f"the demo stops here: this command failed with exit code {code}", file=sys.stderr)
        raise SystemExit(code if code > 0 else 128 - code)


def main() -> None:
    """Run all steps; the last one prints the table."""
    parser = command_parser(__doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"), help="config of the mix run")
    parser.add_argument("--quick", action="store_true", help="a few steps and questions; the numbers mean nothing")
    arguments = parser.parse_args()
    demo = Demo(arguments.config, arguments.quick)
    start = time.monotonic()
    try:
        if not Path(commands.FINETUNE).is_file():
            raise RunError(f"{Path.cwd()} has no {commands.FINETUNE}; run this in the root folder of the repository")
        for argv in list(steps(demo)):
            run_step(argv)
    except UserError as error:
        exit_on_user_error(error)
    print(f"\nthe demo took {time.monotonic() - start:.0f} s; its report is {EvalDir(demo.folder).report('html')}")


if __name__ == "__main__":
    main()
