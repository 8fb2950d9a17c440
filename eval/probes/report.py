"""Probes trained on stored states, and their results in probe.json."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from configs.errors import RunError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.probe import ProbeConfig
from configs.section import result_fields
from data_prep.atomic import write_bytes
from eval.metrics.accuracy import ClassResult
from eval.metrics.frequency import frequencies_of, frequency_results, with_frequency
from eval.models.factory import evaluated_folders
from eval.probes.accuracy import probe
from eval.probes.class_names import match_test_classes
from eval.probes.extraction import states_configs
from eval.probes.requirements import states_folder
from eval.probes.store import open_states
from eval.runner.as_trained import describe_training
from eval.runner.evaluated_model import describe_model
from eval.runner.evaluation_record import read_evaluation
from eval.runner.output_paths import output_paths_of
from eval.runner.stored_answers import check_current
from eval.runner.training_data import probe_notes


def probe_report(config: EvalConfig) -> dict[str, Any]:
    """Train heads on the stored states, write probe.json in the evaluation's folder, and return its content.

    Raises `RunError` if states of either source are missing, or were made with other weights than the folder's;
    `DataError` as `match_test_classes`.
    """
    sources = states_configs(config)
    label, model = evaluated_folders(config)[0]
    folders = [states_folder(source) for source in sources]
    for source in sources:
        for refusal in check_current(source).refusals().values():
            raise RunError(refusal.read_text(encoding="utf-8").strip())
    stored = [open_states(states, config.limit, items, sources[0].protocol.item_draw) for states, items in folders]
    settings = sources[0].probe
    known = match_test_classes(config)
    test = known.relabel(stored[1])
    result = probe(stored[0], test, settings)
    folder = output_paths_of(config).folder(label, model).root / ("encoder" if settings.part == "encoder" else "")
    result |= {
        "name": config.name,
        "model": config.model,
        "label": label,
        "source": config.source,
        "evaluated_model": describe_model(config.model),
        "trained": describe_training(replace(config, protocol=sources[1].protocol)),
        "paper": {"row": config.paper_row} if config.paper_row else None,
        "train_source": config.probe_source,
        "folder": str(folder),
        "protocol": {"name": config.protocol.name, "hash": _protocol_hash(folders[1][0], settings)}
        | {"system_prompt": config.protocol.system_prompt},
        "settings": asdict(settings),
        "left_out_classes": dict(known.unknown),
        "data_notes": [*known.notes, *probe_notes(config)],
        "failures": {
            source.source: [asdict(failure) for failure in part.failures]
            for source, part in zip(sources, stored, strict=True)
        },
    }
    result |= _against_frequency(config, known.names, result["token_positions"])
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(EvalDir(folder).probe, (json.dumps(result, indent=1) + "\n").encode())
    return result


def _protocol_hash(states: EvalDir, settings: ProbeConfig) -> str:
    """Digest of the protocol of the states and the settings of the heads: 12 hexadecimal digits."""
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
