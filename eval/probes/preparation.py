"""What comes before a result on hidden states: the configuration, and the extraction of states that are missing."""

import argparse
from collections.abc import Callable

from configs.command_line import emit_json
from configs.evaluation import EvalConfig
from eval.probes.class_names import match_test_classes
from eval.probes.extraction import extract, states_configs
from eval.probes.requirements import needs_of, needs_text, needs_values
from eval.runner.arguments import eval_config_of
from eval.runner.batching import Share
from eval.runner.dry_run import model_line
from eval.runner.training_data import probe_notes


def prepare_states(
    arguments: argparse.Namespace, check: Callable[[EvalConfig], None] | None = None
) -> EvalConfig | None:
    """Extract the states that are missing, or print what that needs (`--dry-run`).

    `check` refuses a config first. None after a dry run and for one of several workers, which only extracts. Raises
    `UserError` for mistakes in configuration or data.
    """
    config = eval_config_of(arguments, _flags(arguments))
    share = Share.of(arguments.worker, arguments.workers)
    if check is not None:
        check(config)
    if arguments.dry_run:
        notes = [*match_test_classes(config).notes, *probe_notes(config)]
        needs = [needs_of(source) for source in states_configs(config)]
        model = model_line(states_configs(config)[0])
        if not emit_json(arguments.json, {"sources": needs_values(needs), "notes": notes, "model": model.strip()}):
            print(f"{needs_text(needs, notes)}\n{model}")
        return None
    match_test_classes(config)  # refused before hours are spent on states
    if not arguments.report_only:
        extract(config, share, arguments.processes)
    return config if arguments.workers == 1 else None


def _flags(arguments: argparse.Namespace) -> list[str]:
    """The options as the settings they are short for."""
    settings = []
    if arguments.train is not None:
        settings.append(f"probe_source={arguments.train}")
    if getattr(arguments, "epochs", None) is not None:  # options of eval.probing, not of eval.knn
        settings += [f"probe.epochs={arguments.epochs}", f"probe.encoder_epochs={arguments.epochs}"]
    if getattr(arguments, "precision", None) is not None:
        settings.append(f"probe.precision={arguments.precision}")
    if getattr(arguments, "best_on_test", False):
        settings.append("probe.choose_epoch=best_on_test")
    if arguments.encoder:
        settings.append("probe.part=encoder")
    return settings
