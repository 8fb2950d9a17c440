"""A probing: hidden states extracted, heads trained on them, the report; the states serve `eval.knn` too."""

import argparse
from collections.abc import Callable

from configs.command_line import emit_json, exit_on_user_error
from configs.errors import UserError
from configs.evaluation import EvalConfig
from configs.load import load_config
from eval.probes.accuracy import as_text
from eval.probes.class_names import match_test_classes
from eval.probes.extraction import extract, states_configs
from eval.probes.report import ProbedStates, open_probed, probe_report
from eval.probes.requirements import needs_of, needs_text
from eval.runner.batching import Share
from eval.runner.dry_run import model_line
from eval.runner.training_data import probe_notes
from eval.tasks.presets import preset_overrides


def probe(arguments: argparse.Namespace) -> None:
    """Probe a model. Exits with code 2 on a mistake in configuration or data."""
    try:
        config = prepare_states(arguments)
        if config is None:
            return
        result = probe_report(config)
        if not emit_json(arguments.json, result):
            print(as_text(result))
    except UserError as error:
        exit_on_user_error(error)


def states_of(arguments: argparse.Namespace, check: Callable[[EvalConfig], None]) -> ProbedStates | None:
    """The stored states of both sources, extracted where they are missing; None where nothing is left to do with them.

    `check` refuses a config before any state is extracted. Raises `UserError` for mistakes in configuration or data.
    """
    config = prepare_states(arguments, check)
    return None if config is None else open_probed(config)


def prepare_states(
    arguments: argparse.Namespace, check: Callable[[EvalConfig], None] | None = None
) -> EvalConfig | None:
    """Extract the states that are missing, or print what that needs (`--dry-run`).

    `check` refuses a config first. None after a dry run and for one of several workers, which only extracts. Raises
    `UserError` for mistakes in configuration or data.
    """
    config, _ = load_config(EvalConfig, arguments.config, _overrides(arguments))
    share = Share.of(arguments.worker, arguments.workers)
    if check is not None:
        check(config)
    if arguments.dry_run:
        notes = [*match_test_classes(config).notes, *probe_notes(config)]
        print(needs_text([needs_of(source) for source in states_configs(config)], notes))
        print(model_line(states_configs(config)[0]))
        return None
    match_test_classes(config)  # refused before hours are spent on states
    if not arguments.report_only:
        extract(config, share, arguments.processes)
    return config if arguments.workers == 1 else None


def _overrides(arguments: argparse.Namespace) -> list[str]:
    """The flags as the settings they are short for; `--set` overrides them all."""
    settings = list(preset_overrides(arguments.protocol))
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
    return [*settings, *arguments.overrides]
