"""Which checkpoints of a run are to be evaluated, and the evaluation of one.

A checkpoint that was made again after a rollback is another model: what an earlier one answered is put aside. One that
the training deletes before it is evaluated is skipped and said. `follow.json` in the evaluation's folder remembers
which checkpoint each answer is about, and which exports this program made and may delete.
"""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from configs.errors import ConfigError, RunError
from configs.eval_dir import EvalDir, ResultsDir
from configs.evaluation import EvalConfig
from configs.layers import override_layer
from configs.load import load_config
from configs.run_dir import CheckpointDir, ExportDir, RunDir, step_name
from configs.section import result_fields
from configs.words import counted
from data_prep.atomic import write_bytes
from data_prep.checksum import sha256_of
from launch import commands
from launch.follow_curve import best_point, read_points
from launch.run_state import run_state
from launch.steps import typed
from launch.watch import tail

OVER = ("finished", "crashed", "stopped")
MOST_FAILURES = 2  # evaluations that fail before the program gives up
SAVED = "checkpoint"  # kind of the event that a checkpoint was written
SET_HERE = ("model", "checkpoint", "output")
TOO_LATE = "the training deleted it before it was evaluated; raise checkpoint.keep_last or --every"


@dataclass
class FollowState:
    """`checkpoints`: step to the digest of the checkpoint that was evaluated; `exports`: steps exported for it.

    `settings` are those of the evaluation that change a result; empty before the first checkpoint.
    """

    checkpoints: dict[str, str] = field(default_factory=dict)
    exports: list[int] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> "FollowState":
        """The state in `file`; an empty one without it, or if it is damaged."""
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            exports = [int(step) for step in values["exports"]]
            return cls(dict(values["checkpoints"]), exports, dict(values.get("settings", {})))
        except (OSError, ValueError, KeyError, TypeError):
            return cls()


@dataclass
class Follower:
    """One evaluation of one run's checkpoints; `skipped` are steps without an accuracy, and why."""

    run: RunDir
    name: str
    config: Path
    overrides: Sequence[str]
    every: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    failed: int = 0

    @property
    def state_file(self) -> Path:
        """Where the state is kept between starts."""
        return ResultsDir(self.run.evaluation(self.name)).followed

    def next_step(self) -> int | None:
        """The oldest complete checkpoint that has no accuracy yet: the training deletes it first."""
        state = FollowState.read(self.state_file)
        for step in self.run.steps():
            complete = CheckpointDir(self.run.checkpoint(step)).manifest.is_file()
            if complete and step % self.every == 0 and step not in self.skipped and not self._is_done(step, state):
                return step
        return None

    def plan_text(self) -> str:
        """What there is, what is left, and the command of each evaluation."""
        state = FollowState.read(self.state_file)
        steps = [step for step in self.run.steps() if step % self.every == 0]
        done = [step for step in steps if self._is_done(step, state)]
        left = ", ".join(f"{step:,}" for step in steps if step not in done) or "none"
        return (
            f"run {self.run.root}, evaluation {self.name}: {counted(len(done), 'checkpoint')} evaluated, left: {left}\n"
            f"each checkpoint: {typed(self._command('STEP'))}"
        )

    def evaluate(self, step: int, *, keep_best: bool) -> None:
        """Evaluate checkpoint `step`, then delete its exported weights unless they are the best.

        A failure is counted and said. Raises `RunError` after several.
        """
        state = FollowState.read(self.state_file)
        self._put_other_answers_aside(step, state)
        if not self.run.export_of(step).is_dir() and step not in state.exports:
            state.exports.append(step)
        self._save(state)
        argv = self._command(str(step))
        print(f"$ {typed(argv)}", flush=True)
        code = subprocess.run(argv, check=False).returncode
        if code and not self.run.checkpoint(step).is_dir():
            self.skipped[step] = TOO_LATE
        elif code or not self._has_report(step):  # without a report it would be evaluated for ever
            self.failed += 1
            how = f"failed with exit code {code}" if code else "ended without a complete report"
            self.skipped[step] = f"the evaluation {how}"
            if self.failed >= MOST_FAILURES:
                raise RunError(
                    f"{counted(self.failed, 'evaluation')} failed, the last of step {step:,}; the reasons are above"
                )
        self.delete_exports(state, keep_best=keep_best)

    def begin(self, *, keep_best: bool) -> None:
        """Delete exports that a killed start left. Raises `ConfigError` if it evaluated with other settings."""
        state = FollowState.read(self.state_file)
        now = json.loads(json.dumps(self.settings, default=repr))
        for key in sorted(key for key in state.settings.keys() & now.keys() if state.settings[key] != now[key]):
            raise ConfigError(
                f"checkpoints of {self.run.root} were evaluated as {self.name} with {key} {state.settings[key]!r}, not "
                f"{now[key]!r}, so they are not comparable; undo the change, or use another name: --set name=…"
            )
        state.settings = state.settings or now
        self.delete_exports(state, keep_best=keep_best)

    def note_deleted(self) -> None:
        """Add to `skipped` the checkpoints that were written and deleted while others were evaluated."""
        present = self.run.steps()
        saved = {record.get("step") for record in tail(self.run.events, 0)[0] if record.get("kind") == SAVED}
        for step in sorted(step for step in saved if isinstance(step, int) and step % self.every == 0):
            if step not in present and step not in self.skipped and not self._has_report(step):
                self.skipped[step] = TOO_LATE

    def export_best(self) -> None:
        """Replace the run's export by the best checkpoint. Raises `RunError` if there is none, or it did not work."""
        if not ExportDir(self.run.export).record.is_file():
            raise RunError(f"{self.run.root} has not finished, so it has no export to replace; run this again then")
        if best_point(read_points(self.run, self.name)) is None:
            raise RunError(f"no checkpoint of {self.run.root} was evaluated completely; its export is unchanged")
        argv = [sys.executable, "-m", "eval.choose", "--stored", *self._settings()]
        print(f"$ {typed(argv)}", flush=True)
        if code := subprocess.run(argv, check=False).returncode:
            raise RunError(f"the best checkpoint was not exported: exit code {code} of {shlex.join(argv[1:])}")

    def _command(self, step: str) -> list[str]:
        return [sys.executable, "-m", "eval.run", *self._settings(), "--set", f"checkpoint={step}"]

    def _settings(self) -> list[str]:
        own = [f"model={json.dumps(str(self.run.root))}", "output=null"]
        return commands.checked(
            ["--config", str(self.config), *(word for text in (*self.overrides, *own) for word in ("--set", text))]
        )

    def _is_done(self, step: int, state: FollowState) -> bool:
        """Whether there is a complete report about this checkpoint, not about an earlier one of the same step."""
        return self._has_report(step) and state.checkpoints.get(str(step)) in (None, self._digest(step))

    def _has_report(self, step: int) -> bool:
        """Whether there is a complete report about a checkpoint of this step."""
        file = EvalDir(self.run.evaluation(self.name) / step_name(step)).report("json")
        try:
            return not json.loads(file.read_text(encoding="utf-8"))["items"]["missing"]
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _digest(self, step: int) -> str | None:
        """Identifies a checkpoint among others of the same step: the hash of its manifest."""
        try:
            return sha256_of(CheckpointDir(self.run.checkpoint(step)).manifest)
        except OSError:
            return None

    def _put_other_answers_aside(self, step: int, state: FollowState) -> None:
        """Rename the folder of an earlier checkpoint of the same step, and note which one the new answers are about."""
        folder = self.run.evaluation(self.name) / step_name(step)
        before, now = state.checkpoints.get(str(step)), self._digest(step)
        if before is not None and now is not None and before != now and folder.is_dir():
            aside = folder.with_name(f".{folder.name}-{before[:8]}")
            print(f"step {step:,} was trained again; the answers of the earlier checkpoint are in {aside}", flush=True)
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        if now is not None:
            state.checkpoints[str(step)] = now

    def delete_exports(self, state: FollowState, *, keep_best: bool) -> None:
        """Delete the exported weights that this program made, but for those of the best checkpoint."""
        best = best_point(read_points(self.run, self.name)) if keep_best else None
        for step in [step for step in state.exports if best is None or step != best["step"]]:
            shutil.rmtree(self.run.export_of(step), ignore_errors=True)
            state.exports.remove(step)
        self._save(state)

    def _save(self, state: FollowState) -> None:
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self.state_file, (json.dumps(asdict(state), indent=1) + "\n").encode())


def follower_of(folder: Path, config: Path, overrides: Sequence[str], every: int) -> Follower:
    """The follower of a run. Raises `ConfigError` for a mistake in an argument."""
    if every < 1:
        raise ConfigError(f"--every is {every}; give 1 or more")
    run = RunDir(folder)
    if not run.config.is_file():
        raise ConfigError(f"no run in {folder} (it has no {run.config.name}); start the training first")
    for text in overrides:
        override_layer(text)
        if (key := text.partition("=")[0]) in SET_HERE:
            raise ConfigError(f"--set {key}: this program sets it for each checkpoint of {folder}; leave it out")
    evaluation, _ = load_config(EvalConfig, config, [*overrides, f"model={json.dumps(str(run.root))}"])
    settings = {key: value for key, value in result_fields(evaluation).items() if not key.startswith("data.")}
    return Follower(run, evaluation.name, config, overrides, every, settings)


def is_over(run: RunDir) -> bool:
    """Whether the training has ended, for whatever reason."""
    found = run_state(run, *(tail(file)[0] for file in (run.metrics, run.events)))
    return found is not None and found.word in OVER
