"""How often training named each class, by stage, and its correlation with accuracy (Figures 3 and 7, Table 11).

Counts come from `python -m data_prep.frequency --output FILE` (`frequency_file`: names in the text of each source) or
from shard sets whose samples have classes (`frequency_sources`: their histograms). Each source is a stage; all are
added up, and each is also set against the accuracies by itself (Appendix B.6). What the authors' notebooks do in
another way (data_analysis) are settings: protocol.frequency_count, _total, _names and _bins. The first stage is the
pretraining.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from configs.errors import DataError
from configs.evaluation import EvalConfig
from data_prep.class_matching import ClassDifference, named_histogram, shortened
from data_prep.manifest import read_manifest
from data_prep.source_match import check_source_of
from eval.metrics.accuracy import ClassResult, correlation_interval, log_bins, pearson, per_class, spearman, thirds
from eval.types import Prediction, Score


@dataclass(frozen=True, slots=True)
class Frequencies:
    """Occurrences by class name, for every stage; with `if_in_first`, of what the first stage names."""

    stages: Mapping[str, Mapping[str, int]]
    if_in_first: bool = False

    def count(self, name: str) -> int:
        """Occurrences in all stages; a class that none of them names occurs 0 times."""
        counts = [stage.get(name, 0) for stage in self.stages.values()]
        return 0 if self.if_in_first and not counts[0] else sum(counts)

    def only(self, stage: str) -> "Frequencies":
        """One stage by itself."""
        return Frequencies({stage: self.stages[stage]})


def frequencies_of(config: EvalConfig) -> Frequencies | None:
    """What the evaluation says about frequencies, None if nothing.

    Raises `DataError` for a missing or damaged file, and for shards of other data.
    """
    if_in_first = config.protocol.frequency_total == "if_in_first"
    if config.frequency_file is not None:
        stages = read_frequencies(Path(config.frequency_file), config.protocol.frequency_count)
        if unknown := sorted(set(config.frequency_sources) - set(stages)):
            raise DataError(
                f"{config.frequency_file} has no counts of {unknown[0]}; frequency_sources may name "
                f"{', '.join(stages)}, or nothing for all"
            )
        return Frequencies({stage: stages[stage] for stage in config.frequency_sources or stages}, if_in_first)
    if not config.frequency_sources:
        return None
    return Frequencies({source: _histogram(config, source) for source in config.frequency_sources}, if_in_first)


def frequency_notes(config: EvalConfig, names: Sequence[str]) -> list[str]:
    """Which of the classes `names` have no count, a sentence; often nothing. Their frequency is 0.

    Raises `DataError` if none has one, or the counts know a class by another spelling.
    """
    frequencies = frequencies_of(config)
    if frequencies is None or not names or config.protocol.frequency_names != "whole":
        return []
    counted = dict.fromkeys(name for stage in frequencies.stages.values() for name in stage)
    found = ClassDifference.of(dict.fromkeys(names, 1), counted)
    if not found.unknown:
        return []
    where = config.frequency_file or f"the sources {', '.join(frequencies.stages)}"
    text = f"{len(found.unknown):,} of {found.classes:,} classes have no frequency in {where}: "
    text += shortened([*found.unknown])
    if len(found.unknown) == found.classes or found.respelled:
        raise DataError(f"{text}; its classes are {shortened([*counted])}: count the class names that are evaluated")
    return [f"{text}; their frequency counts as 0"]


def read_frequencies(file: Path, rule: str) -> dict[str, dict[str, int]]:
    """The counts by `rule` that `data_prep.frequency --output` wrote: stage to class name to occurrences.

    Classes that share a name share a count. Raises `DataError` that names the file, and the rule where it lacks it.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
        names, rules = values["class_names"], dict(values["rules"])
        if rule in rules:
            return {
                stage: dict(zip(names, map(int, counts["occurrences"]), strict=True))
                for stage, counts in rules[rule].items()
            }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file} cannot be read as counts of class names ({error}); make it with "
            "`python -m data_prep.frequency --config FILE --classes LIST --output JSON`"
        ) from error
    raise DataError(
        f"{file} has counts by {', '.join(map(str, rules)) or 'no rule'}, and protocol.frequency_count is {rule}; "
        "choose one it has, or make it again with `python -m data_prep.frequency --rule all`"
    )


def _histogram(config: EvalConfig, source: str) -> dict[str, int]:
    manifest = read_manifest(Path(config.data.shards) / source)
    check_source_of(manifest, config.data, source, evaluated=True)
    return named_histogram(manifest)


def with_frequency(classes: Sequence[ClassResult], frequencies: Frequencies | None) -> list[ClassResult]:
    """The results with each class's frequency, as they are without any."""
    if frequencies is None:
        return list(classes)
    return [replace(result, frequency=frequencies.count(result.name)) for result in classes]


def compared_classes(scored: Iterable[tuple[Prediction, Score]], names: str = "whole") -> list[ClassResult]:
    """One result a class, for the comparison with frequencies; `names` is protocol.frequency_names.

    With `before_hyphen` as the authors have it for fine-tuned models: a label read from "17-black-eyed susan" ends at
    its first hyphen, so that an answer which contains "black" is correct, and the frequency is that of "black".
    """
    named = [(prediction, score) for prediction, score in scored if prediction.label_name]
    if names == "whole":
        return per_class((p.label, p.label_name or "", score.value) for p, score in named)
    cut = [(str(p.label_name).split("-")[0], p.answer) for p, _ in named]
    return per_class((None, name, name.lower() in answer.lower()) for name, answer in cut)


def frequency_results(classes: Sequence[ClassResult], edges: str = "open") -> dict[str, Any]:
    """Correlations between a class's frequency and accuracy (the paper's Table 11), and both kinds of bins.

    `edges` is protocol.frequency_bins.
    """
    known = [c for c in classes if c.frequency is not None]
    found = correlations(known)
    return {
        "classes": len(known),
        **found,
        "spearman_interval": correlation_interval(found["spearman"], len(known), ranked=True),
        "pearson_interval": correlation_interval(found["pearson"], len(known), ranked=False),
        "thirds": [{**asdict(part), "rate": part.rate.to_json()} for part in thirds(known)],
        "log_bins": [{**asdict(part), "rate": part.rate.to_json()} for part in log_bins(known, edges)],
    }


def stage_results(classes: Sequence[ClassResult], frequencies: Frequencies) -> dict[str, dict[str, float | None]]:
    """The correlations with the counts of each stage alone."""
    return {stage: correlations(with_frequency(classes, frequencies.only(stage))) for stage in frequencies.stages}


def correlations(classes: Sequence[ClassResult]) -> dict[str, float | None]:
    """Spearman's and Pearson's correlation of frequency and accuracy."""
    frequency, accuracy = [float(c.frequency or 0) for c in classes], [c.rate.value for c in classes]
    return {"spearman": spearman(frequency, accuracy), "pearson": pearson(frequency, accuracy)}
