"""Extracting hidden states: two evaluations of task hidden_states, of the training source and of the test source."""

import hashlib
import json
from dataclasses import asdict, replace

from configs.errors import ConfigError
from configs.evaluation import EvalConfig, is_api
from configs.protocol import ProtocolConfig
from eval.models.factory import evaluated_folders
from eval.models.model_type import is_encoder
from eval.probes.requirements import check_disk, complete, needs_of
from eval.runner.batching import Share, open_source
from eval.runner.evaluation_record import ANSWER_SCORING_SETTINGS, CLASS_SCORING_SETTINGS, describe_evaluation
from eval.runner.output_paths import output_paths_of
from eval.runner.workers import run_evaluations

NO_STATE = (  # settings of a protocol that hidden states do not depend on: they belong to scoring or to other tasks
    *ANSWER_SCORING_SETTINGS,
    *CLASS_SCORING_SETTINGS,
    *("name", "classes", "class_quotes", "class_sentence", "class_prefix", "class_token_ids", "score_eos"),
    *("show_image", "reveal_class", "refuse_leaks", "max_new_tokens"),
)


def extract(config: EvalConfig, share: Share, processes: int = 1) -> None:
    """Store this share of the states of `config.probe_source` and `config.source` that are not stored yet.

    Refusals of the model are reported by `probe_report`. Raises `UserError` for other mistakes that a user can fix.
    """
    needs = [needs_of(source) for source in states_configs(config)]
    check_disk(needs)
    if unfinished := [need.config for need in needs if not complete(need)]:
        run_evaluations(unfinished, share, processes)


def states_configs(config: EvalConfig) -> list[EvalConfig]:
    """The evaluations that store the states of the training source and of `config.source`.

    Raises `ConfigError` for a model without states, and without `probe_source`.
    """
    trained_on = config.probe_source
    if trained_on is None:
        raise ConfigError("probe_source is not set; name the source of data.sources that heads learn from, or --train")
    if is_api(config.model):
        raise ConfigError(f"{config.model} gives no hidden states; probing needs a model on this machine")
    if config.protocol.labels is not None:
        raise ConfigError(
            f"protocol.labels is {config.protocol.labels}, and probes and nearest neighbours are tested on the one "
            "label of each image in its source; remove it"
        )
    alone = is_encoder(config.model, evaluated_folders(config)[0][1])
    if alone and config.probe.part == "language_model":
        raise ConfigError(f"probe.part is language_model, and {config.model} has none; leave it at auto")
    part = config.probe.part if config.probe.part != "auto" else "encoder" if alone else "language_model"
    epochs = config.probe.encoder_epochs if part == "encoder" else config.probe.language_model_epochs()
    authors = "every_epoch" if part == "encoder" else "once"
    shuffle = authors if config.probe.shuffle == "official" else config.probe.shuffle
    config = replace(config, probe=replace(config.probe, part=part, epochs=epochs, shuffle=shuffle))
    return [_storing(config, source) for source in (trained_on, config.source)]


def _storing(config: EvalConfig, source: str) -> EvalConfig:
    """The evaluation that stores the states of `source`, in a separate folder for each prompt and token position."""
    usual = asdict(ProtocolConfig())
    kept = usual if config.probe.part == "encoder" else asdict(config.protocol)
    protocol = ProtocolConfig(**{**kept, **{name: usual[name] for name in NO_STATE}, "task": "hidden_states"})
    storing = replace(config, name=source, source=source, protocol=protocol, paper_row=None)
    settings = describe_evaluation(storing, "", "", open_source(storing).fingerprint, (0, 0)).generation_settings
    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode()).hexdigest()[:12]
    return replace(storing, output=str(output_paths_of(config).root / "features" / f"{source}-{digest}"))
