"""Linear probing: how much of the class stands in the language model's last layer (the paper's Tables 3 and 10).

    python -m eval.probing --config FILE.yaml --train SOURCE [--epochs 500]     extract, train, report
    python -m eval.probing --config FILE.yaml --train SOURCE --encoder   the image encoder instead
    python -m eval.probing --config FILE.yaml --train SOURCE --dry-run   what it needs of disk and memory
    python -m eval.probing --benchmark [--json]                          our training against the authors' loop

    --processes 4               states extracted by four processes (one GPU each, where there are several)
    --worker 3 --workers 16     one of sixteen array tasks that extract; the same command without them trains

One pass over the images stores the last layer's states at `probe.token_positions`; the same command resumes after a
kill. One linear layer per position is trained on them, all at once. `--set probe.KEY=VALUE` sets epochs, rate, order,
precision and which epoch counts; `--protocol official` sets what the authors do, who report the best epoch *on the
test items*.

Files in the evaluation's folder: features/SOURCE-DIGEST/ (`eval.probes.store`), probe.json (the results).
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from configs.command_line import command_parser, exit_on_user_error
from configs.errors import ConfigError, RunError, UserError
from configs.evaluation import EvalConfig, is_api
from configs.load import load_config
from configs.protocol import ProbeConfig, ProtocolConfig
from configs.run_dir import EvalDir
from configs.section import result_fields
from data_prep.atomic import write_bytes
from eval.benchmarks.probe_heads import benchmark, benchmark_text
from eval.metrics.accuracy import ClassResult
from eval.metrics.frequency import frequencies_of, frequency_results, with_frequency
from eval.models.factory import evaluated_folders
from eval.models.model_type import is_encoder
from eval.probes.accuracy import as_text, probe
from eval.probes.requirements import check_disk, complete, needs_of, needs_text, states_place
from eval.probes.store import open_states
from eval.runner.batching import Share, open_source
from eval.runner.evaluated_model import described
from eval.runner.fingerprint import JUDGING, SCORING, describe_evaluation, read_evaluation
from eval.runner.output_paths import place_of
from eval.runner.stored_answers import check_current
from eval.runner.workers import ask_evaluations
from eval.tasks.presets import preset_names, preset_overrides

NO_STATE = (  # settings of a protocol that no state depends on: they are judged, or asked by other kinds
    *(
        *JUDGING,
        *SCORING,
        "name",
        "classes",
        "class_quotes",
        "class_sentence",
        "class_prefix",
        "class_ids",
        "score_eos",
    ),
    *("show_image", "name_class", "refuse_leaks", "max_new_tokens"),
)


def extract(config: EvalConfig, share: Share, processes: int = 1) -> None:
    """Store this share of the states of `config.probe_source` and `config.source` that are not stored yet.

    What the model refuses is told by `report`. Raises `UserError` for whatever else a user can mend.
    """
    needs = [needs_of(source) for source in states_configs(config)]
    check_disk(needs)
    if unfinished := [need.config for need in needs if not complete(need)]:
        ask_evaluations(unfinished, share, processes)


def report(config: EvalConfig) -> dict[str, Any]:
    """Train heads on the stored states, write probe.json in the evaluation's folder, and return its content.

    Raises `RunError` if states are missing, of either source, or are those of other weights than lie there now.
    """
    sources = states_configs(config)
    label, model = evaluated_folders(config)[0]
    places = [states_place(source) for source in sources]
    for source in sources:
        for refusal in check_current(source).refusals().values():
            raise RunError(refusal.read_text(encoding="utf-8").strip())
    stored = [open_states(states, config.limit, items) for states, items in places]
    settings = sources[0].probe
    result = probe(stored[0], stored[1], settings)
    folder = place_of(config).folder(label, model).root / ("encoder" if settings.part == "encoder" else "")
    result |= {
        "name": config.name,
        "model": config.model,
        "label": label,
        "source": config.source,
        "system": described(config.model),
        "paper": {"row": config.paper_row} if config.paper_row else None,
        "train_source": config.probe_source,
        "folder": str(folder),
        "protocol": {"name": config.protocol.name, "hash": _protocol_hash(places[1][0], settings)},
        "settings": asdict(settings),
        "failures": {
            source.source: [asdict(failure) for failure in part.failures]
            for source, part in zip(sources, stored, strict=True)
        },
    }
    result |= _against_frequency(config, result["places"])
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "probe.json", (json.dumps(result, indent=1) + "\n").encode())
    return result


def _protocol_hash(states: EvalDir, settings: ProbeConfig) -> str:
    """Names how the states were asked for and how heads were trained on them: 12 hexadecimal digits."""
    evaluation = read_evaluation(states)
    asked = None if evaluation is None else evaluation.protocol_hash
    return hashlib.sha256(json.dumps([asked, result_fields(settings)], sort_keys=True).encode()).hexdigest()[:12]


def states_configs(config: EvalConfig) -> list[EvalConfig]:
    """The evaluations that store the states of the training source and of `config.source`.

    Raises `ConfigError` for a model without states, and without `probe_source`.
    """
    trained_on = config.probe_source
    if trained_on is None:
        raise ConfigError("probe_source is not set; name the source of data.sources that heads learn from, or --train")
    if is_api(config.model):
        raise ConfigError(f"{config.model} shows no states; probing needs a model on this machine")
    alone = is_encoder(config.model, evaluated_folders(config)[0][1])
    if alone and config.probe.part == "language_model":
        raise ConfigError(f"probe.part is language_model, and {config.model} has none; leave it at auto")
    part = config.probe.part if config.probe.part != "auto" else "encoder" if alone else "language_model"
    epochs = config.probe.encoder_epochs if part == "encoder" else config.probe.epochs
    authors = "every_epoch" if part == "encoder" else "once"
    shuffle = authors if config.probe.shuffle == "official" else config.probe.shuffle
    config = replace(config, probe=replace(config.probe, part=part, epochs=epochs, shuffle=shuffle))
    return [_storing(config, source) for source in (trained_on, config.source)]


def _storing(config: EvalConfig, source: str) -> EvalConfig:
    """The evaluation that stores the states of `source`, in a folder of its own for each question and place."""
    usual = asdict(ProtocolConfig())
    kept = usual if config.probe.part == "encoder" else asdict(config.protocol)
    protocol = ProtocolConfig(**{**kept, **{name: usual[name] for name in NO_STATE}, "task": "hidden_states"})
    storing = replace(config, name=source, source=source, protocol=protocol, paper_row=None)
    asked = describe_evaluation(storing, "", "", open_source(storing).fingerprint, (0, 0)).asked
    digest = hashlib.sha256(json.dumps(dict(asked), sort_keys=True).encode()).hexdigest()[:12]
    return replace(storing, output=str(place_of(config).root / "features" / f"{source}-{digest}"))


def _against_frequency(config: EvalConfig, places: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Each class's accuracy at the mean over the tokens, and how it goes with the class's frequency (Figure 7)."""
    counts = places.get("mean", {}).get("right_by_label")
    names = open_source(config).manifest.class_names
    frequencies = frequencies_of(config)
    if counts is None or frequencies is None or not names:
        return {"classes": [], "frequency": None}
    results = [ClassResult(label, names[label], right, n - right, 0) for label, (right, n) in counts.items()]
    results = with_frequency(results, frequencies)
    return {"classes": [asdict(result) for result in results], "frequency": frequency_results(results)}


def main(argv: Sequence[str] | None = None) -> None:
    """Probe a model, or measure the training of heads. Exits with code 2 on a mistake."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.benchmark:
        measured = benchmark()
        print(json.dumps(measured) if arguments.json else benchmark_text(measured))
        return
    if arguments.config is None:
        parser.error("give --config, or --benchmark")
    try:
        config, _ = load_config(EvalConfig, arguments.config, _overrides(arguments))
        share = Share.of(arguments.worker, arguments.workers)
        if arguments.dry_run:
            print(needs_text([needs_of(source) for source in states_configs(config)]))
            return
        if not arguments.report_only:
            extract(config, share, arguments.processes)
        if arguments.workers == 1:
            result = report(config)
            print(json.dumps(result) if arguments.json else as_text(result))
    except UserError as error:
        exit_on_user_error(error)


def _overrides(arguments: argparse.Namespace) -> list[str]:
    """The flags as the settings they are short for; `--set` refines them all."""
    settings = list(preset_overrides(arguments.protocol))
    if arguments.train is not None:
        settings.append(f"probe_source={arguments.train}")
    if arguments.epochs is not None:
        settings += [f"probe.epochs={arguments.epochs}", f"probe.encoder_epochs={arguments.epochs}"]
    if arguments.precision is not None:
        settings.append(f"probe.precision={arguments.precision}")
    if arguments.best_on_test:
        settings.append("probe.choose_epoch=best_on_test")
    if arguments.encoder:
        settings.append("probe.part=encoder")
    return [*settings, *arguments.overrides]


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--config", type=Path, metavar="FILE", help="evaluation whose model and source are probed")
    parser.add_argument("--train", metavar="SOURCE", help="source that heads are trained on (default: probe_source)")
    parser.add_argument("--epochs", type=int, help="probe.epochs and probe.encoder_epochs")
    parser.add_argument("--encoder", action="store_true", help="probe.part=encoder; a CLIP has nothing else")
    parser.add_argument("--precision", choices=("fp32", "bf16", "auto"), help="probe.precision")
    parser.add_argument("--best-on-test", action="store_true", help="probe.choose_epoch=best_on_test, as the authors")
    parser.add_argument("--protocol", metavar="NAME", help=f"{', '.join(preset_names())}, or a YAML file")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--worker", type=int, metavar="I", help="which of --workers this is, from 0; it only extracts")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="how many jobs share the extraction")
    parser.add_argument("--processes", type=int, default=1, metavar="P", help="processes on this machine")
    parser.add_argument(
        "--report-only", action="store_true", help="extract nothing; train on the states that are there"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what it needs of disk and memory; load no model")
    parser.add_argument("--benchmark", action="store_true", help="time the training of heads on random features")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
