"""A probing: hidden states extracted, heads trained on them, the report."""

import argparse

from configs.command_line import emit_json, exit_on_user_error
from configs.errors import UserError
from configs.evaluation import EvalConfig
from configs.load import load_config
from eval.probes.accuracy import as_text
from eval.probes.class_names import match_test_classes
from eval.probes.extraction import extract, states_configs
from eval.probes.report import probe_report
from eval.probes.requirements import needs_of, needs_text
from eval.runner.batching import Share
from eval.runner.dry_run import model_line
from eval.runner.training_data import probe_notes
from eval.tasks.presets import preset_overrides


def probe(arguments: argparse.Namespace) -> None:
    """Probe a model. Exits with code 2 on a mistake in configuration or data."""
    try:
        config, _ = load_config(EvalConfig, arguments.config, _overrides(arguments))
        share = Share.of(arguments.worker, arguments.workers)
        if arguments.dry_run:
            notes = [*match_test_classes(config).notes, *probe_notes(config)]
            print(needs_text([needs_of(source) for source in states_configs(config)], notes))
            print(model_line(states_configs(config)[0]))
            return
        match_test_classes(config)  # refused before hours are spent on states
        if not arguments.report_only:
            extract(config, share, arguments.processes)
        if arguments.workers == 1:
            result = probe_report(config)
            if not emit_json(arguments.json, result):
                print(as_text(result))
    except UserError as error:
        exit_on_user_error(error)


def _overrides(arguments: argparse.Namespace) -> list[str]:
    """The flags as the settings they are short for; `--set` overrides them all."""
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
