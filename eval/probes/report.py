"""Probes trained on stored states, and their results in probe.json; what every result on stored states says."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from configs.errors import RunError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.section import Section, result_fields
from data_prep.atomic import write_json
from eval.metrics.accuracy import ClassResult
from eval.metrics.frequency import frequencies_of, frequency_results, with_frequency
from eval.models.factory import evaluated_folders
from eval.probes.accuracy import probe
from eval.probes.class_names import ProbeClasses, match_test_classes
from eval.probes.extraction import states_configs
from eval.probes.requirements import states_folder
from eval.probes.store import StoredStates, open_states
from eval.runner.as_trained import describe_training
from eval.runner.evaluated_model import describe_model
from eval.runner.evaluation_record import read_evaluation
from eval.runner.output_paths import output_paths_of
from eval.runner.stored_answers import check_current
from eval.runner.training_data import probe_notes


@dataclass(frozen=True, slots=True)
class ProbedStates:
    """The stored states of both sources, with the classes of the training source, and where results are written."""

    config: EvalConfig
    sources: Sequence[EvalConfig]
    train: StoredStates
    test: StoredStates
    known: ProbeClasses
    label: str
    folder: EvalDir


def open_probed(config: EvalConfig) -> ProbedStates:
    """What is stored for the sources of `config`.

    Raises `RunError` if states of either source are missing, or were made with other weights than the folder's;
    `DataError` as `match_test_classes`.
    """
    sources = states_configs(config)
    label, model = evaluated_folders(config)[0]
    for source in sources:
        for refusal in check_current(source).refusals().values():
            raise RunError(refusal.read_text(encoding="utf-8").strip())
    stored = []
    for source in sources:
        states, items = states_folder(source)
        stored.append(open_states(states, config.limit, items, sources[0].protocol.item_draw))
    known = match_test_classes(config)
    encoder = "encoder" if sources[0].probe.part == "encoder" else ""
    folder = EvalDir(output_paths_of(config).folder(label, model).root / encoder)
    return ProbedStates(config, sources, stored[0], known.relabel(stored[1]), known, label, folder)


def describe_probed(states: ProbedStates, settings: Section) -> dict[str, Any]:
    """Model, sources, protocol and `settings` of a result on stored states, and what is doubtful about it."""
    config, known = states.config, states.known
    return {
        "name": config.name,
        "model": config.model,
        "label": states.label,
        "source": config.source,
        "evaluated_model": describe_model(config.model),
        "trained": describe_training(replace(config, protocol=states.sources[1].protocol)),
        "train_source": config.probe_source,
        "folder": str(states.folder.root),
        "protocol": {
            "name": config.protocol.name,
            "hash": _protocol_hash(states_folder(states.sources[1])[0], settings),
            "system_prompt": config.protocol.system_prompt,
        },
        "settings": asdict(settings),
        "left_out_classes": dict(known.unknown),
        "data_notes": [*known.notes, *probe_notes(config)],
        "failures": {
            source.source: [asdict(failure) for failure in part.failures]
            for source, part in zip(states.sources, (states.train, states.test), strict=True)
        },
    }


def probe_report(config: EvalConfig) -> dict[str, Any]:
    """Train heads on the stored states, write probe.json in the evaluation's folder, and return its content.

    Raises as `open_probed`.
    """
    states = open_probed(config)
    settings = states.sources[0].probe
    result = probe(states.train, states.test, settings) | describe_probed(states, settings)
    result["paper"] = {"row": config.paper_row} if config.paper_row else None
    result |= _against_frequency(config, states.known.names, result["token_positions"])
    states.folder.root.mkdir(parents=True, exist_ok=True)
    write_json(states.folder.probe, result)
    return result


def _protocol_hash(states: EvalDir, settings: Section) -> str:
    """Digest of the protocol of the states and the settings of the heads or neighbours: 12 hexadecimal digits."""
    evaluation = read_evaluation(states)
    protocol = None if evaluation is None else evaluation.protocol_hash
    return hashlib.sha256(json.dumps([protocol, result_fields(settings)], sort_keys=True).encode()).hexdigest()[:12]


def _against_frequency(
    config: EvalConfig, names: Sequence[str], positions: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Each class's accuracy at the mean over the tokens, and its correlation with class frequency (Figure 7).

    `names` are the training source's, whose class indices the heads predict.
    """
    counts = positions.get("mean", {}).get("correct_by_label")
    frequencies = frequencies_of(config)
    if counts is None or frequencies is None or not names:
        return {"classes": [], "frequency": None}
    results = [ClassResult(label, names[label], correct, n - correct, 0) for label, (correct, n) in counts.items()]
    results = with_frequency(results, frequencies)
    return {"classes": [asdict(result) for result in results], "frequency": frequency_results(results)}
