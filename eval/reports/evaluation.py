"""The report of one evaluation, made from its stored predictions alone: report.json, report.md, report.html.

`build_report` turns answers into numbers (report.json holds them all); `report_page` lays them out. Scores are
computed here, by the protocol's own rule, so another matching rule needs no new questions.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from configs.errors import UserError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.protocol import ProtocolConfig
from data_prep.class_names import load_class_list
from data_prep.drops import drop_notes
from data_prep.page_gallery import Gallery
from data_prep.run_index import write_result
from eval.metrics.accuracy import Rate, macro_accuracy
from eval.metrics.class_confidence import class_score_results
from eval.metrics.confusion import confusions
from eval.metrics.confusion_matrix import confusion_matrix
from eval.metrics.frequency import (
    compared_classes,
    frequencies_of,
    frequency_notes,
    frequency_results,
    stage_results,
    with_frequency,
)
from eval.metrics.outcomes import scored_predictions
from eval.metrics.question_metrics import BY_IMAGE, GRADED, accuracy_of, graded_numbers, numbers_of, outcome_shares
from eval.metrics.several import count_several
from eval.reports.answered_classes import answered_classes, answered_letters, answered_words, taken_for
from eval.reports.candidate_set import candidate_set, candidates_of, scored_answer
from eval.reports.class_halves import class_half
from eval.reports.cut_answers import cut_before_answer
from eval.reports.evaluation_page import report_page
from eval.reports.grades import grade_results, item_grades
from eval.reports.item_gallery import item_gallery
from eval.reports.label_sets import label_set_numbers
from eval.reports.most_frequent import most_frequent
from eval.reports.provenance import provenance_of
from eval.runner.as_trained import describe_training
from eval.runner.batching import open_source
from eval.runner.class_check import check_classes
from eval.runner.evaluated_model import checkpoint_selection_notes, describe_model
from eval.runner.evaluation_record import Evaluation, update_scoring, with_scoring
from eval.runner.predictions import Records
from eval.runner.stored_records import records_of
from eval.runner.training_data import training_notes
from eval.tasks.item_labels import ItemLabels
from eval.tasks.registry import task_output
from eval.types import Prediction, Score

EXAMPLES = 8  # of each outcome
Measured = Mapping[str, Mapping[str, Any]]
"""`accuracy` and the further numbers of a report, by name."""
Comparison = Callable[[Mapping[str, Any], Measured], dict[str, Any] | None]
"""(the report's first fields, its numbers) to the reference number that one is compared with, None without one."""


def write_report(folder: EvalDir, config: EvalConfig, compare: Comparison | None = None) -> dict[str, Any]:
    """Write the three files from the answers in `folder`, and return the content of report.json.

    Raises `RunError` if there are no answers, or answers to other questions than `config` asks.
    """
    answers = _read(update_scoring(folder, config), folder, config)
    return _write(folder, build_report(answers, config, compare), _gallery(answers, config))


def write_view(
    answers: EvalDir, folder: EvalDir, config: EvalConfig, compare: Comparison | None = None
) -> dict[str, Any]:
    """Write into `folder` the report of answers in another folder, scored by `config`; the answers do not change.

    Raises `RunError` as `write_report`.
    """
    folder.root.mkdir(parents=True, exist_ok=True)
    read = _read(with_scoring(answers, config), answers, config)
    report = build_report(read, config, compare) | {"answers_of": os.path.relpath(answers.root, folder.root)}
    return _write(folder, report, _gallery(read, config))


@dataclass(frozen=True, slots=True)
class ScoredAnswers:
    """All answers of one evaluation in `folder`, each with its score."""

    folder: EvalDir
    evaluation: Evaluation
    records: Records
    scored: Sequence[tuple[Prediction, Score]]


def _read(evaluation: Evaluation, folder: EvalDir, config: EvalConfig) -> ScoredAnswers:
    records = records_of(folder, evaluation)
    predictions = list(records.predictions.values())
    scored = scored_predictions(folder, predictions, config.protocol, evaluation.answer_delimiter)
    return ScoredAnswers(folder, evaluation, records, scored)


def _gallery(answers: ScoredAnswers, config: EvalConfig) -> Gallery | None:
    everything = list(answers.records.predictions.values())
    grades = item_grades(answers.folder, answers.evaluation, config, everything)
    return item_gallery(answers.scored, answers.records, answers.evaluation, config, grades)


def _write(folder: EvalDir, report: dict[str, Any], items: Gallery | None) -> dict[str, Any]:
    write_result(folder.report, report, report_page(report, items))
    return report


def _item_counts(answers: ScoredAnswers) -> dict[str, Any]:
    """How many items have a scored answer, failed, or were never asked; unlabelled ones are in none of these."""
    expected, failed = answers.evaluation.items, len(answers.records.failures)
    return {
        "expected": expected,
        "answered": len(answers.scored),
        "failed": failed,
        "missing": max(0, expected - len(answers.records.predictions) - failed),
        "source": answers.evaluation.source_items,
    }


def build_report(answers: ScoredAnswers, config: EvalConfig, compare: Comparison | None = None) -> dict[str, Any]:
    """The content of report.json. Shares are fractions of the answered items; failed items are in none of them."""
    evaluation, records, scored = answers.evaluation, answers.records, answers.scored
    predictions = [prediction for prediction, _ in scored]
    judged = scored if config.protocol.task != GRADED else ()
    frequencies = frequencies_of(config)
    classes = with_frequency(compared_classes(scored), frequencies)
    compared = compared_classes(scored, config.protocol.frequency_names)
    accuracy = accuracy_of(config.protocol.task, judged)
    answered = list(records.predictions.values())
    grades = grade_results(answers.folder, evaluation, config, answered, scored)
    further = numbers_of(config.protocol.task, judged) | graded_numbers(grades)
    pairs = answered_classes(scored, config.protocol.classes)
    totals = Counter(prediction.label_name for prediction in predictions if prediction.label_name)
    protocol = evaluation.settings
    header = {
        "name": evaluation.name,
        "model": evaluation.model,
        "label": evaluation.label,
        "source": evaluation.source,
        "evaluated_model": describe_model(config.model),
        "trained": describe_training(config),
        "protocol": protocol | {"name": config.protocol.name, "hash": evaluation.protocol_hash},
        "class_half": class_half(config.data.sources.get(config.source), protocol),
    }
    return header | {
        "items": _item_counts(answers),
        "data_notes": _data_notes(config),
        "label_sets": label_set_numbers(answered, config.protocol),
        "accuracy": accuracy,
        "numbers": further,
        **outcome_shares(config.protocol.task, judged),
        "macro_accuracy": macro_accuracy(classes),
        "several_classes": _several_classes(predictions, config.protocol),
        "baselines": _baselines(predictions),
        "most_frequent": most_frequent(predictions, protocol),
        "paper": None if compare is None else compare(header, {"accuracy": accuracy, **further}),
        "answers": _answers(predictions),
        "frequency": frequency_results(with_frequency(compared, frequencies), config.protocol.frequency_bins)
        if frequencies
        else None,
        "frequency_stages": stage_results(compared, frequencies) if frequencies else {},
        "frequency_sources": list(frequencies.stages) if frequencies else [],
        "classes": [asdict(result) for result in classes],
        "confusions": confusions(taken_for(pairs), totals),
        "confusion_matrix": confusion_matrix(
            pairs or answered_letters(scored) or answered_words(config.protocol.task, scored)
        ),
        "candidate_set": candidate_set(config.protocol),
        "grades": grades,
        "class_scores": class_score_results(answers.folder, answered, scored, config.protocol),
        "examples": _examples(judged if grades else scored, config.protocol),
        "failures": [asdict(failure) for failure in records.failures.values()],
        "provenance": provenance_of(answers.folder),
    }


def _data_notes(config: EvalConfig) -> list[str]:
    """What a reader must know of the test items: unlisted classes, images that are also in the run's training data."""
    try:
        shards = open_source(config)
        notes = [*check_classes(config, shards), *training_notes(config), *checkpoint_selection_notes(config)]
        notes += drop_notes(config.source, shards.manifest.drops, shards.manifest.records)
        return [*notes, *frequency_notes(config, shards.manifest.class_names)]
    except UserError:  # the answers alone may be on this machine
        return []


def _several_classes(predictions: Sequence[Prediction], protocol: ProtocolConfig) -> dict[str, Any] | None:
    """How many answers name several classes, where a class name is looked for in a text; None elsewhere."""
    if (
        task_output(protocol.task) != "text"
        or protocol.task in (*BY_IMAGE, GRADED)
        or any(prediction.choices for prediction in predictions)
    ):
        return None
    listed = load_class_list(protocol.classes).names if protocol.classes else ()
    classes = (*listed, *(prediction.target for prediction in predictions))
    return Rate(count_several((p.answer for p in predictions), classes), len(predictions)).to_json()


def _baselines(predictions: Sequence[Prediction]) -> dict[str, float] | None:
    """What needs no model where there are options: a random letter, and always the most frequent one (Table 5)."""
    if not predictions or not all(prediction.choices for prediction in predictions):
        return None
    targets = [prediction.target for prediction in predictions]
    return {
        "random": sum(1 / len(prediction.choices) for prediction in predictions) / len(predictions),
        "max_frequency": max(map(targets.count, set(targets))) / len(targets),
    }


def _answers(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """How long answers were (mean, in tokens), how many were cut at the limit, how long they took (seconds)."""
    number = max(1, len(predictions))
    return {
        "mean_tokens": sum(prediction.num_tokens for prediction in predictions) / number,
        "cut": sum(not prediction.stopped for prediction in predictions),
        "cut_before_answer": cut_before_answer(predictions),
        "seconds": sum(prediction.seconds for prediction in predictions),
    }


def _examples(scored: Sequence[tuple[Prediction, Score]], protocol: ProtocolConfig) -> list[dict[str, Any]]:
    """The first few answers of each outcome, in an order drawn from the ids, with their candidates where some are."""
    examples = []
    labels = ItemLabels(protocol)
    for value in (True, False, None):
        chosen = [(p, s) for p, s in scored if s.value is value][:EXAMPLES]
        examples += [
            {
                "id": p.id,
                "target": ", ".join(labels.of(p)),
                "class": p.label_name,
                "answer": scored_answer(protocol, p, s),
                "candidates": candidates_of(protocol, p),
                **asdict(s),
            }
            for p, s in chosen
        ]
    return examples
