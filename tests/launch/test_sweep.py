"""A sweep from its options to its table, with stand-ins for training and evaluation, and with a fake sbatch."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from configs.load import load_config
from configs.run import RunConfig
from configs.run_dir import RunDir
from launch import sweep_local
from launch.sweep import main
from launch.sweep_plan import label
from launch.sweep_state import HELD_OUT, Measured, measurements
from launch.sweep_table import best, summary

ARGUMENTS = ["--config", "configs/run.yaml", "--grid", "optim.lr_projector=1e-3,2e-3", "--seeds", "3"]
ONE_SEED, FIRST = ARGUMENTS[:4], "flowers-lr_projector_0.001-seed0"
CPUS = ["--nodes", "2", "--gpus-per-node", "0", "--tasks-per-node", "2"]
ACCURACY = {"0.001": (0.50, 0.52, 0.51), "0.002": (0.70, 0.73, 0.71)}


class Machine:
    """Stands in for the programs: writes what a training and an evaluation leave behind, and counts them."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.codes: dict[str, int] = {}
        """Exit codes of trainings by the name of their run; others succeed."""

    def run(self, argv: list[str]) -> int:
        settings = Path(argv[argv.index("--config") + 1])
        run = RunDir(settings.parents[1])
        if "data_prep.build" in argv:
            self.started.append("data")
            return 0
        what = "train" if "train/finetune.py" in argv else "eval"
        self.started.append(f"{what} {run.root.name}")
        return self.train(run, settings) if what == "train" else self.evaluate(run)

    def train(self, run: RunDir, settings: Path) -> int:
        run.config.write_bytes(settings.read_bytes())
        run.metrics.write_text('{"step": 1, "step_s": 36.0}\n')
        code = self.codes.get(run.root.name, 0)
        outcome = {0: "finished", 3: "stopped by the monitor"}.get(code, "RuntimeError: out of memory")
        run.provenance.write_text(
            json.dumps([{"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"} | {"outcome": outcome}])
        )
        if not code:
            run.export.mkdir(exist_ok=True)
            (run.export / "export.json").write_text("{}")
        return code

    def evaluate(self, run: RunDir) -> int:
        folder = run.evaluation("open_world") / "export"
        folder.mkdir(parents=True, exist_ok=True)
        rate = {"value": ACCURACY[run.root.name[len("flowers-lr_projector_") :][:5]][int(run.root.name[-1])], "n": 100}
        (folder / "report.json").write_text(json.dumps({"accuracy": rate, "items": {"missing": 0, "failed": 0}}))
        return 0


@pytest.fixture
def machine(project, add_shards, monkeypatch):
    add_shards("flowers", "flowers_test")
    found = Machine()
    monkeypatch.setattr(sweep_local, "run_command", found.run)
    monkeypatch.setattr("launch.sweep_report.steps_of", lambda config: 100)
    return found


def table(project: Path) -> dict:
    return json.loads((project / "runs/flowers-sweep-lr_projector/sweep.json").read_text())


@pytest.mark.slow
def test_a_sweep_goes_on_after_failures_and_marks_the_best_when_all_is_there(project, machine, capsys):
    machine.codes = {"flowers-lr_projector_0.001-seed1": 1}
    with pytest.raises(SystemExit) as left:
        main(ARGUMENTS)
    assert left.value.code == 1
    printed = capsys.readouterr()
    assert "flowers-lr_projector_0.001-seed1: training failed with exit code 1" in printed.err
    assert "no best setting: 1 of 6 runs have no result yet" in printed.out
    names = [f"flowers-lr_projector_{value}-seed{seed}" for value in (0.001, 0.002) for seed in range(3)]
    lost = "eval flowers-lr_projector_0.001-seed1"
    assert machine.started == [f"{what} {n}" for n in names for what in ("train", "eval") if f"{what} {n}" != lost]
    machine.codes, machine.started = {}, []
    main(ARGUMENTS)
    assert machine.started == [f"{what} flowers-lr_projector_0.001-seed1" for what in ("train", "eval")]
    found = table(project)
    assert [row["results"]["open_world"]["n"] for row in found["rows"]] == [3, 3]
    assert found["rows"][0]["results"]["open_world"]["mean"] == pytest.approx(0.51)
    assert found["best"]["open_world"]["row"] == 1
    printed = capsys.readouterr().out
    assert "71.3 %" in printed and "row 2 is best" in printed
    assert "Sweep flowers-sweep-lr_projector" in (project / "runs/flowers-sweep-lr_projector/sweep.html").read_text()
    index = (project / "runs/index.html").read_text()
    assert "flowers-sweep-lr_projector/sweep.html" in index
    assert "best is optim.lr_projector=0.002, 71.3\xa0%" in index


@pytest.mark.slow
def test_the_same_command_starts_only_what_is_left_and_refuses_other_settings(project, machine, capsys):
    main([*ARGUMENTS, "--dry-run"])
    printed = capsys.readouterr().out
    assert "2 settings, 6 runs" in printed and "total: 600 steps, hours unknown" in printed
    main([*ONE_SEED, *CPUS, "--dry-run", "--json"])
    assert [run["steps_left"] for run in json.loads(capsys.readouterr().out)["runs"]] == [100, 100]
    assert machine.started == [] and not (project / "runs").exists()
    file = project / "configs/eval/open_world.yaml"
    file.write_text(file.read_text() + "output: shared\n")
    main(ONE_SEED)
    assert "output shared is not used" in capsys.readouterr().err
    assert "output: null" in (project / f"runs/{FIRST}/slurm/eval.open_world.yaml").read_text()
    main([*ARGUMENTS, "--dry-run"])
    printed = capsys.readouterr().out
    assert "total: 400 steps, 4.00 hours" in printed and "36 s a step" in printed
    report = project / f"runs/{FIRST}/eval/open_world/export/report.json"
    report.write_text(report.read_text().replace('"missing": 0', '"missing": 7'))
    machine.started.clear()
    main(ONE_SEED)
    assert machine.started == [f"eval {FIRST}"]
    file.write_text(file.read_text() + "limit: 50\n")
    main([*ONE_SEED, "--report-only"])
    assert [row["results"]["open_world"]["n"] for row in table(project)["rows"]] == [0, 0], "as the file was before"
    for report in project.glob("runs/*/eval/*/export/report.json"):
        os.utime(report, (1, 1))
    machine.started.clear()
    main(ONE_SEED)
    assert [name.split()[0] for name in machine.started] == ["eval", "eval"]
    with pytest.raises(SystemExit) as left:
        main([*ONE_SEED, "--set", "train.epochs=7"])
    assert left.value.code == 2
    assert "was trained with train.epochs 1, not 7; begin other names with --set name=" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_diverged_is_left_as_it_is_and_counted(project, machine, capsys):
    machine.codes = {FIRST: 3}
    main(ONE_SEED)
    machine.started.clear()
    main(ONE_SEED)
    assert machine.started == []
    printed = capsys.readouterr().out
    assert "diverged before; left as it is" in printed and f"1 of 2 runs lacks a result: {FIRST}: diverged" in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--grid", "optim.lr_projektor=1,2"], "--grid optim.lr_projektor=1: unknown key"),
        (["--grid", "optim.lr_projector=1e-5,0.00001"], "are the same setting"),
        (["--grid", "train.epochs=1,2", "--name", ".."], "the sweep's name (--name) is '..'"),
        (["--grid", "train.epochs=1,2", "--name", "flowers-epochs_2-seed0"], "is that of a run; give another --name"),
        (["--grid", "train.epochs=1", "--evaluate", "configs/eval/nothing.yaml"], "no config file"),
        (["--grid", "train.global_batch=64,63", "--ranks", "2"], "63 is not divisible by 2 ranks"),
    ],
)
def test_a_mistake_is_refused_before_anything_starts(project, machine, capsys, more, message):
    with pytest.raises(SystemExit) as left:
        main(["--config", "configs/run.yaml", *more])
    assert left.value.code == 2
    assert message in capsys.readouterr().err
    assert machine.started == [] and not (project / "runs").exists()


@pytest.mark.parametrize(("seed", "longest"), [(0, 47), (12345, 45)])
def test_a_name_without_room_for_setting_and_seed_is_refused_with_the_length_that_fits(
    project, machine, capsys, seed, longest
):
    for letters in (longest, longest + 1):
        words = [*ONE_SEED, "--dry-run", "--set", f"name={'a' * letters}", "--set", f"seed={seed}"]
        if letters == longest:
            main(words)
            assert f"{'a' * letters}-" in capsys.readouterr().out
        else:
            with pytest.raises(SystemExit):
                main(words)
            assert f"give one of at most {longest}: --set name=SHORTER" in capsys.readouterr().err


def test_values_that_cannot_be_part_of_a_name_are_a_digest_in_it():
    settings = [{"train.passes_per_epoch": {"flowers": passes}} for passes in (1, 2)]
    first, second = (label(one, ["train.passes_per_epoch"], 40) for one in settings)
    assert first != second and len(first) == len(second) == 8
    assert label({"a.b": None}, ["a.b"], 40) == "b_null" != label({"a.b": "null"}, ["a.b"], 40)
    assert label({"a.lr": 1e-5, "b.lr": 2}, ["a.lr", "b.lr"], 40) == "a.lr_1e-05-b.lr_2"


@pytest.mark.slow
def test_slurm_gets_arrays_of_the_runs_that_are_left_and_a_table(project, machine, sbatch, capsys):
    main(ONE_SEED)
    (project / "runs/flowers-lr_projector_0.002-seed0/eval/open_world/export/report.json").unlink()
    main([*ARGUMENTS, *CPUS, "--dry-run"])
    assert sbatch() == [] and "==> commands <==" in capsys.readouterr().out
    main([*ARGUMENTS, *CPUS])
    train, evaluate, trained, made = sbatch()
    name = "--job-name=flowers-sweep-lr_projector"
    assert {f"{name}.train", "--array=0-3", "--nodes=2", "--ntasks-per-node=2"} <= {*train}
    assert {f"{name}.eval.open_world", "--array=0-3", "--dependency=aftercorr:100"} <= {*evaluate}
    assert {f"{name}.eval.open_world.trained", "--array=0-0"} <= {*trained}
    assert {f"{name}.table", "--dependency=afterany:100:101:102", "--report-only"} <= {*made}
    assert train[-3:] == ["train/finetune.py", "--resume", "auto"]
    script = train.index("runs/flowers-sweep-lr_projector/slurm/sweep.sbatch")
    folder, listed, stage, config = train[script + 1 : script + 5]
    assert (folder, stage, config) == ("runs/flowers-sweep-lr_projector", "finetune.sbatch", "run")
    runs = [Path(run) for run in Path(listed).read_text().splitlines()]
    assert [run.name[-5:] for run in runs] == ["seed1", "seed2"] * 2
    assert load_config(RunConfig, runs[3] / "slurm/run.yaml")[0].name == runs[3].name
    for name in ("sweep", "finetune", "evaluate"):
        assert (project / folder / f"slurm/{name}.sbatch").is_file()


def values(*numbers: float, n: int = 100) -> dict[int, Measured]:
    return {seed: Measured(value, n) for seed, value in enumerate(numbers)}


@pytest.mark.parametrize(
    ("rows", "row", "why"),
    [
        ([values(0.5, 0.52, 0.51), values(0.7, 0.73, 0.71)], 1, "row 2 is best"),
        ([values(0.5, 0.6, 0.4), values(0.6, 0.5, 0.5)], None, "cannot be told from row 1 with 3 seeds"),
        ([values(0.79, 0.81, 0.83), values(0.81, 0.83, 0.85)], None, "cannot be told from row 1 with 3 seeds"),
        (
            [values(0.5, 0.6), values(0.6, 0.7)],
            None,
            "row 2 has the best mean and cannot be told from row 1 with 2 seeds",
        ),
        ([values(0.5, 0.6), values(0.6, 0.5)], None, "row 1 has the same mean as row 2 with 2 seeds"),
        ([values(0.0, 0.0)] * 3, None, "row 1 has the same mean as rows 2, 3 with 2 seeds"),
        ([values(0.5, 0.6, 0.7)], None, "not two settings"),
        ([values(0.5), values(0.9)], None, "one seed shows no spread"),
        ([values(0.5, 0.6, 0.7), values(0.9, 0.8)], None, "1 of 6 runs have no result yet"),
        ([values(0.5, 0.52, 0.51), values(0.7, 0.73, 0.71, n=99)], None, "different numbers of items"),
    ],
)
def test_a_best_setting_is_named_only_if_its_seeds_differ_from_every_others(rows, row, why):
    found = best(rows, [False] * len(rows), "accuracy", len(rows[0]))
    assert found["row"] == row and why in found["why"]


def test_a_setting_that_diverged_is_not_compared_and_is_counted():
    rows = [values(0.5, 0.52, 0.51), values(0.7), values(0.7, 0.73, 0.71)]
    found = best(rows, [False, True, False], "accuracy", 3)
    assert found["row"] == 2 and "1 setting diverged and is not compared" in found["why"]


def test_of_held_out_losses_the_lowest_is_best_and_intervals_of_accuracies_end_at_one():
    assert best([values(0.5, 0.52, 0.51), values(0.7, 0.73, 0.71)], [False] * 2, "held-out loss", 3)["row"] == 0
    assert summary(values(0.9, 1.0), "accuracy")["high"] == 1.0
    assert summary(values(0.9, 1.0), "held-out loss")["high"] > 1.0


@pytest.mark.parametrize(
    ("outcome", "losses", "value"),
    [
        ("finished", '{"a": 1.0, "b": 2.0}', 1.5),
        ("stopped by the monitor", '{"a": 1.0, "b": 2.0}', None),
        (None, '{"a": 1.0, "b": 2.0}', None),
        ("finished", '{"a": 1.0, "b": NaN}', None),
        ("finished", '{"a": 1.0, "b": null}', None),
    ],
)
def test_a_held_out_loss_counts_only_at_the_end_of_a_run_and_if_it_is_finite(tmp_path, outcome, losses, value):
    run = RunDir(tmp_path)
    run.metrics.write_text(f'{{"step": 8, "heldout_loss": {losses}}}\n')
    run.provenance.write_text(json.dumps([{"start": "2026-01-01T00:00:00Z", "outcome": outcome}]))
    found = measurements(SimpleNamespace(evaluations=(), run=run))
    assert found == ({} if value is None else {HELD_OUT: Measured(value, None)})
