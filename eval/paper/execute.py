"""Executes a plan: runs the model on items without an answer, rescores stored answers, sweeps, probes, reports.

    ask(planned, share, processes)
    outcomes = finish(planned)
    write_record(planned[0].config, protocol, outcomes)           # reproduction-PROTOCOL.json

A row that cannot be run stays in the list with its reason, as does a row without a single answered item.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

from configs.errors import RunError, UserError
from configs.eval_dir import EvalDir, ResultsDir
from configs.evaluation import EvalConfig
from configs.run_dir import run_of, step_of
from data_prep.atomic import write_json
from data_prep.file_lock import locked
from eval.class_scores.table import NOT_STORED
from eval.metrics.guidance import guidance_results
from eval.paper.comparison import comparison_with
from eval.paper.plan import Planned
from eval.reports.evaluation import write_report, write_view
from eval.reports.formatting import correlated, main_number, percent, protocol_tag
from eval.reports.grade_blocks import grading_warnings
from eval.reports.guidance_page import write_guidance
from eval.reports.wandb_upload import upload
from eval.runner.as_trained import training_differences
from eval.runner.batching import Share
from eval.runner.evaluation_record import OtherAnswersError
from eval.runner.output_paths import output_paths_of

PROBES = ("probe", "linear")
NOTHING = "no item is evaluated yet"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a row: `accuracy` as in report.json, under which `protocol` (name and hash), or the `reason` why
    there is none.
    """

    dataset: str
    row: str
    title: str
    tables: str
    accuracy: Mapping[str, Any] | None = None
    note: str = ""
    reason: str | None = None
    folder: str | None = None
    protocol: str | None = None

    @property
    def waits(self) -> bool:
        """Whether there are answers and their result waits for a grader."""
        return self.row == "graded" and self.accuracy is None and self.reason is None


def ask(planned: Sequence[Planned], share: Share, processes: int = 1) -> None:
    """Run the model on this share of the items without an answer, and extract the hidden states for probes."""
    configs = [row.config for row in planned if row.runs_model]
    if configs:
        from eval.runner.workers import run_evaluations  # loads torch, which a dry run does not need

        run_evaluations(configs, share, processes)
    for row in planned:
        if row.row.kind in PROBES and row.reason is None:
            from eval.probes.extraction import extract

            try:
                extract(_probing(row), share, processes)
            except UserError as error:  # the other rows continue; the outcome says that states are missing
                print(f"{row.config.name}: {error}", file=sys.stderr, flush=True)


def finish(planned: Sequence[Planned]) -> list[Outcome]:
    """Reports, views, sweeps and probes of all rows, from the answers that are there; one outcome a row, in order."""
    answers = {(row.dataset, row.row.key): row for row in planned}
    outcomes = []
    for row in planned:
        base = answers.get((row.dataset, row.row.answers or ""))
        try:
            outcomes.append(_not_run(row, row.reason) if row.reason else _finish(row, base))
        except UserError as error:
            if isinstance(error, OtherAnswersError):
                _mark_outdated(row)
            outcomes.append(_not_run(row, str(error)))
    return outcomes


def _mark_outdated(row: Planned) -> None:
    """Rename results of other weights or items, so that no scoreboard shows them for a row that was not run."""
    from eval.runner.stored_answers import answers_folder  # loads torch

    folder = answers_folder(row.config)[0].root / ("encoder" if row.row.kind == "linear" else "")
    for file in EvalDir(folder).result_files():
        if file.is_file():
            file.rename(file.with_name(f"{file.name}.outdated"))


def _finish(row: Planned, base: Planned | None) -> Outcome:
    if row.row.kind in PROBES:
        return _probe_outcome(row)
    from eval.models.model_type import is_open_clip
    from eval.runner.stored_answers import check_current  # these load torch

    source = row if base is None else base
    folder = check_current(source.config)
    refused = [file.read_text(encoding="utf-8").strip() for file in folder.refusals().values()]
    if refused and is_open_clip(
        row.config.model
    ):  # its weights are known only once it is loaded, which may have failed
        raise OtherAnswersError(refused[0])
    if not any(file.stat().st_size for file in folder.all_predictions()):
        return _not_run(row, [*refused, NOTHING][0])
    if row.row.kind == "guidance":
        return _guidance_outcome(row, folder)
    target = _rescored_folder(row, folder) if row.row.kind == "rescore" else folder
    if row.row.kind == "rescore":
        report = write_view(folder, target, row.config, comparison_with(row.config.paper_row))
    else:
        report = write_report(folder, source.config, comparison_with(source.config.paper_row))
        upload(source.config, [report])
    if not report["items"]["answered"]:
        reasons = [failure["reason"] for failure in report["failures"]] or [*refused, NOTHING]  # a kill left no line
        return _not_run(row, reasons[0])
    return _report_outcome(row, report, target, refused)


def _report_outcome(row: Planned, report: Mapping[str, Any], folder: EvalDir, refused: Sequence[str]) -> Outcome:
    items = report["items"]
    notes = [f"{items[key]:,} {key}" for key in ("failed", "missing") if items[key]]
    notes += refused[:1] if items["missing"] else []
    notes += [f"not as trained: {text}" for text in training_differences(report)]
    accuracy: Mapping[str, Any] | None = main_number(report)
    if row.row.key == "graded" and accuracy is not None and not accuracy["n"]:
        accuracy = None
        notes.append(f"{items['answered']:,} answers, not graded yet: {_grading_command(row)}")
    elif row.row.key == "graded":
        notes += [text for entry in report["grades"] for text in grading_warnings(entry)]
    if f1 := report.get("numbers", {}).get("f1"):
        notes.append(f"F1 score {percent(f1['value'])}, yes {percent(report['numbers']['yes_ratio']['value'])}")
    if row.row.key.startswith("frequency"):
        found = report["frequency"]
        correlations = [f"{correlated(found)} over {found['classes']:,} classes"]
        stages = report["frequency_stages"]
        correlations += [f"{stage} alone {correlated(values)}" for stage, values in stages.items() if len(stages) > 1]
        accuracy, notes = None, correlations
    if row.row.key in ("random", "max_frequency"):
        accuracy, notes = None, [f"{report['baselines'][row.row.key]:.1%} of {report['accuracy']['n']:,}"]
    return _outcome(row, accuracy, "; ".join(notes), folder, protocol_tag(report))


def _grading_command(row: Planned) -> str:
    """The command that grades the stored answers of a row."""
    settings = {"model": row.config.model, "name": row.config.name, "checkpoint": row.config.checkpoint}
    if row.config.checkpoint == "export":
        del settings["checkpoint"]
    sets = " ".join(f"--set {quote(f'{key}={value}')}" for key, value in settings.items())
    named = f"--protocol {row.config.protocol.name} " if row.config.protocol.name != "custom" else ""
    return f"python -m eval.grade --config configs/eval/{row.dataset}.yaml {named}{sets}"


def _guidance_outcome(row: Planned, answers: EvalDir) -> Outcome:
    results = guidance_results(answers) | {"name": row.config.name}
    folder = _rescored_folder(row, answers)
    write_guidance(folder, results)
    own = results["forms"].get(results["own"])
    if own is None:
        return _not_run(row, NOT_STORED)
    held, swept = own["held_out"], own["swept_on_test"]
    if held is None:
        return _not_run(row, f"{results['items']} items are too few to choose t on one half of them")
    authors = f"swept on all {swept['accuracy']['n']:,}: {swept['accuracy']['value']:.1%} at t = {swept['guidance']:g}"
    note = f"form {results['own']}, t = {held['guidance']:g} chosen on {held['chosen_on']:,} others ({authors})"
    return _outcome(row, held["accuracy"], note, folder, protocol_tag(results))


def _probing(row: Planned) -> EvalConfig:
    """The row's probe settings: `linear` rows probe the image encoder, `probe` rows the language model."""
    part = "encoder" if row.row.kind == "linear" else "language_model"
    return replace(row.config, probe=replace(row.config.probe, part=part))


def _probe_outcome(row: Planned) -> Outcome:
    from eval.probes.report import probe_report  # loads torch

    result = probe_report(_probing(row))
    positions, folder, tag = result["token_positions"], Path(result["folder"]), protocol_tag(result)
    failed = sum(map(len, result["failures"].values()))
    note = result["chosen"] + (f"; {failed:,} items failed" if failed else "")
    if row.row.kind == "linear":
        (name, only), *_ = positions.items()
        return _outcome(row, only["accuracy"], f"head on {name.replace('_', ' ')}; {note}", folder, tag)
    name = next((main for main in ("mean", "-1") if main in positions), next(iter(positions)))
    others = [f"{other} {found['accuracy']['value']:.1%}" for other, found in positions.items() if other != name]
    note = f"position {name}; {note}; " + (f"others: {', '.join(others)}" if others else "no other position")
    if result["frequency"]:
        note += f"; frequency: {correlated(result['frequency'])}"
    return _outcome(row, positions[name]["accuracy"], note, folder, tag)


def _rescored_folder(row: Planned, answers: EvalDir) -> EvalDir:
    """The folder of a report that rescores `answers`: the same label in the folder of the row's evaluation."""
    paths = output_paths_of(row.config)
    return EvalDir(paths.root / answers.root.name if paths.in_run else paths.root)


def _outcome(
    row: Planned, accuracy: Mapping[str, Any] | None, note: str, folder: EvalDir | Path, protocol: str | None = None
) -> Outcome:
    path = str(folder.root if isinstance(folder, EvalDir) else folder)
    return Outcome(row.dataset, row.row.key, row.row.title, row.row.tables, accuracy, note, None, path, protocol)


def _not_run(row: Planned, reason: str | None) -> Outcome:
    return Outcome(row.dataset, row.row.key, row.row.title, row.row.tables, reason=reason)


def record_file(config: EvalConfig, protocol: str) -> Path:
    """The file with the outcomes of one model and protocol, next to the folders of its evaluations."""
    paths, (_, checkpoint) = output_paths_of(config), _model_and_checkpoint(config)
    if paths.in_run:
        which = "" if checkpoint == "export" else f"-{checkpoint}"
        return ResultsDir(paths.root.parent).reproduction(f"{protocol}{which}")
    return ResultsDir(paths.root.parent.parent).reproduction(f"{protocol}-{paths.root.name}")


def _model_and_checkpoint(config: EvalConfig) -> tuple[str, str]:
    """(model, checkpoint): the run and which of its models, also where `config.model` is that model's own folder."""
    run, folder = run_of(config.model), Path(config.model)
    if run is None or run.root == folder:
        return config.model, config.checkpoint
    step = step_of(folder.name.removeprefix(f"{run.export.name}-"))
    return str(run.root), folder.name if step is None else str(step)


def write_record(config: EvalConfig, protocol: str, outcomes: Sequence[Outcome]) -> Path:
    """Write the outcomes and return the file; outcomes of other data sets or rows from earlier calls are kept.

    Raises `RunError` if that earlier call's file is damaged.
    """
    file = record_file(config, protocol)
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.with_suffix(".lock")):  # a call for other data sets may end at the same time
        try:
            rows = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else []
            kept = {(row["dataset"], row["row"]): row for row in rows}
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{file} is damaged ({error}); delete it: the next call of eval.reproduce writes its rows again"
            ) from error
        kept |= {(outcome.dataset, outcome.row): asdict(outcome) for outcome in outcomes}
        model, checkpoint = _model_and_checkpoint(config)
        identity = {"model": model, "checkpoint": checkpoint, "protocol": protocol}
        content = identity | {"rows": list(kept.values())}
        write_json(file, content)
    return file
