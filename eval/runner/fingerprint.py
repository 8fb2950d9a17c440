"""evaluation.json: the identity of the answers in a folder, with which answers to other questions are never mixed.

`asked` is all that changes an answer: model, data, prompt, chat template, precision. It must agree for a folder to be
used again. `judged` (matching rule, synonyms) may change: the report is then made again from the same answers. So may
the limit: items chosen by a smaller limit are among those of a larger one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from configs.errors import RunError
from configs.evaluation import EvalConfig, is_api
from configs.protocol import ProtocolConfig
from configs.run_dir import EvalDir
from configs.section import result_fields
from data_prep.atomic import remove_leftovers, write_bytes
from data_prep.class_names import load_class_list

FORMAT_VERSION = 1
SCORING_FIELDS = (
    *("match", "synonyms", "after_last", "label_without", "answer_without", "choice_parser", "unparsed"),
    *("duplicates", "class_match", "frequency_total", "frequency_names", "frequency_bins"),
)
SCORING = (
    *("token_scores", "rule", "guidance", "cfg_form", "cfg_prior", "cfg_mean"),
    *("candidates", "candidate_draw", "order"),
)
"""Judged, too, where all class names are scored: the stored scores serve every rule and candidate set."""
LISTED = ("closed_world", "class_likelihood", "zero_shot")
"""Kinds whose questions or scores are about all names of protocol.classes."""


class OtherAnswersError(RunError):
    """What lies in a folder are answers to other questions, of other weights or about other items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The content of evaluation.json.

    `model` is the config's words for it and `label` the checkpoint's; `items` counts what is to be asked, out of
    `source_items`; `config` is the resolved configuration. `answer_delimiter` is what protocol.after_last
    `official` means for this model.
    """

    name: str
    model: str
    label: str
    source: str
    items: int
    source_items: int
    limit: int | None
    asked: Mapping[str, Any]
    judged: Mapping[str, Any]
    config: Mapping[str, Any]
    format_version: int = FORMAT_VERSION
    answer_delimiter: str | None = None

    @property
    def protocol_hash(self) -> str:
        """Names the protocol, whatever the model and the data: 12 hexadecimal digits.

        A setting at its default is left out, so that a new setting renames no protocol.
        """
        defaults = result_fields(ProtocolConfig())
        parts = [
            {key: value for key, value in part.items() if key not in defaults or value != defaults[key]}
            for part in (self.asked, self.judged)
        ]
        protocol = {key: value for key, value in parts[0].items() if key not in ("model", "data")}
        text = json.dumps([protocol, parts[1]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def describe_evaluation(
    config: EvalConfig, label: str, model_identity: str, fingerprint: str, counts: tuple[int, int]
) -> Evaluation:
    """What would be written for `config`; `counts` are the items to ask and those of the source."""
    protocol = result_fields(config.protocol)
    asked: dict[str, Any] = {"model": model_identity, "data": fingerprint, "dtype": config.dtype}
    if is_api(config.model):
        asked |= {"dtype": None, **result_fields(config.api, "api.")}
    judging = scoring_fields(config.protocol.task)
    asked |= {key: value for key, value in protocol.items() if key not in judging}
    if config.protocol.classes is not None and config.protocol.task in LISTED:
        asked["classes_sha256"] = _names_hash(load_class_list(config.protocol.classes).names)
    if config.protocol.task == "hidden_states":
        encoder = config.probe.part == "encoder"
        asked |= {"part": config.probe.part, "token_positions": None if encoder else list(config.probe.token_positions)}
    judged = {key: protocol[key] for key in judging}
    judged["synonyms_sha256"] = _file_hash(config.protocol.synonyms)
    return Evaluation(
        name=config.name,
        model=config.model,
        label=label,
        source=config.source,
        items=counts[0],
        source_items=counts[1],
        limit=config.limit,
        asked=asked,
        judged=judged,
        config=asdict(config),
    )


def with_batch_settings(evaluation: Evaluation, config: EvalConfig) -> Evaluation:
    """The same where an answer depends on those beside it: the batches are part of what is asked."""
    return replace(evaluation, asked={**evaluation.asked, "batch_size": config.batch_size, "limit": config.limit})


def scoring_fields(task: str) -> tuple[str, ...]:
    """The settings of a protocol that change what answers are worth, but not the answers."""
    return SCORING_FIELDS + SCORING if task in ("class_likelihood", "zero_shot") else SCORING_FIELDS


def protocol_of(settings: Mapping[str, Any]) -> ProtocolConfig:
    """The protocol in the `asked` and `judged` of an evaluation, or in a report; what is not said has its default."""
    known = {field.name for field in fields(ProtocolConfig)}
    return ProtocolConfig(**{key: value for key, value in settings.items() if key in known})


def _names_hash(names: Sequence[str]) -> str:
    """Tells one class list from another that lies at the same place."""
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()


def _file_hash(place: str | None) -> str | None:
    if place is None or not Path(place).expanduser().is_file():
        return None
    return hashlib.sha256(Path(place).expanduser().read_bytes()).hexdigest()


def read_evaluation(folder: EvalDir) -> Evaluation | None:
    """What the folder is for, or None if it is new. Raises `RunError` if its answers or its file cannot be used."""
    if not folder.config.is_file():
        if folder.all_predictions():
            raise RunError(f"{folder.root} has predictions but no evaluation.json; delete them, or set another output")
        return None
    try:
        evaluation = Evaluation(**json.loads(folder.config.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise RunError(f"{folder.config} cannot be read ({error}); delete {folder.root} to start again") from error
    if evaluation.format_version != FORMAT_VERSION:
        raise RunError(
            f"{folder.config} has format version {evaluation.format_version}, this program writes {FORMAT_VERSION}; "
            f"delete {folder.root} to start again"
        )
    return evaluation


def check_answers(folder: EvalDir, wanted: Evaluation) -> None:
    """Raise `OtherAnswersError` if the folder holds answers to other questions, naming each difference and the way out.

    Raises `RunError` as `read_evaluation`.
    """
    present = read_evaluation(folder)
    if present is not None:
        _check_same(folder, present.asked, wanted.asked)


def write_evaluation(folder: EvalDir, wanted: Evaluation) -> None:
    """Write evaluation.json. Raises `RunError` as `check_answers` does."""
    check_answers(folder, wanted)
    folder.root.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.root)
    _write(folder, wanted)


def rescore(folder: EvalDir, config: EvalConfig) -> Evaluation:
    """The folder's evaluation, judged from now on by `config`'s matching rule and synonyms.

    Raises `RunError` if there are no answers, or answers to other questions than `config` asks.
    """
    present, judged = read_evaluation(folder), rescored(folder, config)
    judged = replace(judged, name=present.name if present else judged.name)
    if judged != present:
        _write(folder, judged)
    return judged


def rescored(folder: EvalDir, config: EvalConfig) -> Evaluation:
    """What the answers in `folder` are under `config`'s name and judgement; nothing is written. Raises as `rescore`."""
    present = read_evaluation(folder)
    if present is None:
        raise RunError(f"{folder.root} has no evaluation yet; run eval.run without --report-only first")
    known = present.asked["model"], present.asked["data"]
    wanted = describe_evaluation(config, present.label, *known, (present.items, present.source_items))
    batches = {key: present.asked[key] for key in ("batch_size", "limit") if key in present.asked}
    _check_same(folder, present.asked, {**wanted.asked, **batches})
    return replace(present, name=config.name, judged=wanted.judged)


def _check_same(folder: EvalDir, present: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    judged = scoring_fields(str(wanted.get("task")))
    differences = [
        f"{key} was {_short(present.get(key))} and is now {_short(wanted.get(key))}"
        for key in sorted({*present, *wanted})
        if present.get(key) != wanted.get(key) and key not in judged
    ]
    if differences:
        raise OtherAnswersError(
            f"{folder.root} holds answers to other questions: {'; '.join(differences)}. Set output to another "
            f"folder, or delete {folder.root} to start again"
        )


def _write(folder: EvalDir, evaluation: Evaluation) -> None:
    write_bytes(folder.config, (json.dumps(asdict(evaluation), indent=1, ensure_ascii=False) + "\n").encode())


def _short(value: object) -> str:
    """Digests by their first digits, other values as they are."""
    text = repr(value)
    return f"{text[1:13]}..." if isinstance(value, str) and len(value) == 64 else text
