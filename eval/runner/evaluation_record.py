"""evaluation.json: the identity of the answers in a folder, with which answers to other questions are never mixed.

`generation_settings` holds every setting that changes an answer: model, data, prompt, template, precision. A folder
is resumed only if those are equal that its task uses (`eval.runner.unused_settings`). `scoring_settings` (matching
rule, synonyms) may change: the report is then computed again from the same answers. The limit may change too: items
selected by a smaller limit are a subset of a larger one's.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from configs.errors import RunError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig, is_api, precision
from configs.protocol import LISTED, PUBLISHED_DEFAULTS, ProtocolConfig
from configs.scoring import AnswerScoring, ClassScoring
from configs.section import field_defaults, result_fields
from configs.trained import protocol_as_trained
from data_prep.atomic import remove_leftovers, write_json
from data_prep.class_names import load_class_list
from eval.runner.batching import item_limit
from eval.runner.changed_settings import changed_settings
from eval.runner.evaluated_model import described_weights
from eval.runner.predictions import being_written, read_records
from eval.runner.unused_settings import unused_settings
from eval.tasks.registry import task_output

FORMAT_VERSION = 1
MODEL_FILES = "model_files"
"""The generation setting with the digests of the model folder's other files (`eval.runner.model_files`)."""
ANSWER_SCORING_SETTINGS = tuple(spec.name for spec in fields(AnswerScoring))
CLASS_SCORING_SETTINGS = (
    *(spec.name for spec in fields(ClassScoring)),
    *("candidates", "candidate_draw", "candidate_file", "order", "seed"),
)
"""Further scoring settings where all class names are scored: the stored scores serve every rule and candidate set."""
CANDIDATE_FILE = "candidate_file"
"""A setting whose file counts by its content: it may be read from another path. As a generation setting, its digest."""


class OtherAnswersError(RunError):
    """A folder holds answers to other questions, of other weights or about other items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The content of evaluation.json.

    `model` and `label` name the model (as in the config) and its checkpoint; `items` is the number of items to evaluate
    of `source_items`; `config` is the resolved configuration. `answer_delimiter` is what protocol.answer_after
    `official` means for this model.
    """

    name: str
    model: str
    label: str
    source: str
    items: int
    source_items: int
    limit: int | None
    generation_settings: Mapping[str, Any]
    scoring_settings: Mapping[str, Any]
    config: Mapping[str, Any]
    format_version: int = FORMAT_VERSION
    answer_delimiter: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """All settings of the questions and of their scoring, without `MODEL_FILES`, for a report."""
        both = {**self.generation_settings, **self.scoring_settings}
        return {key: value for key, value in both.items() if key != MODEL_FILES}

    @property
    def item_draw(self) -> str:
        """protocol.item_draw, by which `limit` chooses items."""
        return str(self.generation_settings.get("item_draw", "id"))

    @property
    def protocol_hash(self) -> str:
        """Digest of the protocol without model and data: 12 hexadecimal digits.

        Settings at their defaults are excluded, so that adding a setting does not change existing digests.
        """
        defaults = result_fields(ProtocolConfig(**PUBLISHED_DEFAULTS))
        parts = [
            {key: value for key, value in part.items() if key not in defaults or value != defaults[key]}
            for part in (self.generation_settings, self.scoring_settings)
        ]
        protocol = {key: value for key, value in parts[0].items() if key not in ("model", MODEL_FILES, "data")}
        scoring = {key: value for key, value in parts[1].items() if key != CANDIDATE_FILE}
        text = json.dumps([protocol, scoring], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def describe_evaluation(
    config: EvalConfig, label: str, model_identity: str, fingerprint: str, counts: tuple[int, int]
) -> Evaluation:
    """The evaluation that `config` describes; `counts`: (items to evaluate, items of the source)."""
    protocol = result_fields(protocol_as_trained(config.protocol, None))
    generation_settings: dict[str, Any] = {"model": model_identity, "data": fingerprint, "dtype": precision(config)}
    if is_api(config.model):
        generation_settings |= {"dtype": None, **result_fields(config.api, "api.")}
    scoring = scoring_setting_names(config.protocol.task)
    generation_settings |= {key: value for key, value in protocol.items() if key not in scoring}
    if config.protocol.classes is not None and config.protocol.task in LISTED:
        generation_settings["classes_sha256"] = _names_hash(load_class_list(config.protocol.classes).names)
    if config.protocol.task == "hidden_states":
        encoder = config.probe.part == "encoder"
        generation_settings |= {
            "part": config.probe.part,
            "token_positions": None if encoder else list(config.probe.token_positions),
        }
    scoring_settings = {key: protocol[key] for key in scoring}
    scoring_settings["synonyms_sha256"] = file_hash(config.protocol.synonyms)
    if config.protocol.candidate_file is not None:
        content = file_hash(config.protocol.candidate_file)
        if CANDIDATE_FILE in scoring:
            scoring_settings[f"{CANDIDATE_FILE}_sha256"] = content
        else:
            generation_settings[CANDIDATE_FILE] = content
    if config.protocol.labels is not None:
        scoring_settings["labels_sha256"] = file_hash(config.protocol.labels)
    return Evaluation(
        name=config.name,
        model=config.model,
        label=label,
        source=config.source,
        items=counts[0],
        source_items=counts[1],
        limit=item_limit(config),
        generation_settings=generation_settings,
        scoring_settings=scoring_settings,
        config=asdict(config),
    )


def with_batch_settings(evaluation: Evaluation, config: EvalConfig) -> Evaluation:
    """`evaluation` with the batch settings added, for models whose answers depend on the composition of a batch."""
    return replace(
        evaluation,
        generation_settings={**evaluation.generation_settings, "batch_size": config.batch_size, "limit": config.limit},
    )


def scoring_setting_names(task: str) -> tuple[str, ...]:
    """The settings of a protocol that change the scores of answers, but not the answers."""
    if task in ("class_likelihood", "zero_shot", "trained_probe"):
        return ANSWER_SCORING_SETTINGS + CLASS_SCORING_SETTINGS
    return (*ANSWER_SCORING_SETTINGS, "seed") if task == "multiple_choice" else ANSWER_SCORING_SETTINGS


def protocol_of(settings: Mapping[str, Any]) -> ProtocolConfig:
    """The protocol stored in an evaluation (generation and scoring settings together) or a report.

    Missing settings get their defaults.
    """
    known = {field.name for field in fields(ProtocolConfig)}
    return ProtocolConfig(**{key: value for key, value in settings.items() if key in known})


def _names_hash(names: Sequence[str]) -> str:
    """Digest of a class list: two lists at the same path are distinguished by it."""
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()


def file_hash(path: str | None) -> str | None:
    """Digest of a file's content; None without a file."""
    if path is None or not Path(path).expanduser().is_file():
        return None
    return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()


def read_evaluation(folder: EvalDir) -> Evaluation | None:
    """The evaluation of the folder; None if it is new. Raises `RunError` if evaluation.json is missing or damaged."""
    if not folder.config.is_file():
        if folder.all_predictions():
            raise RunError(
                f"{folder.root} has answers but no {folder.config.name}, which says what they answer; restore the file "
                "from a copy, or set output to another folder"
            )
        return None
    try:
        evaluation = Evaluation(**json.loads(folder.config.read_text(encoding="utf-8-sig")))
    except (ValueError, TypeError) as error:
        raise RunError(
            f"{folder.config} is damaged ({error}); the answers next to it are kept. Restore the file from a copy, or "
            "set output to another folder"
        ) from error
    if evaluation.format_version != FORMAT_VERSION:
        raise RunError(
            f"{folder.config} has format version {evaluation.format_version}, this program writes {FORMAT_VERSION}; "
            "set output to another folder"
        )
    return evaluation


def check_answers(folder: EvalDir, wanted: Evaluation) -> None:
    """Raise `OtherAnswersError`, naming each difference and the remedy, if the folder holds answers to other questions.

    A folder without answers, failures at most, may change its settings: those items are run again.
    Raises `RunError` as `read_evaluation`.
    """
    present = read_evaluation(folder)
    if present is not None and not _failures_only(folder, present, wanted):
        _check_same(folder, wanted.model, present.generation_settings, wanted.generation_settings)


def write_evaluation(folder: EvalDir, wanted: Evaluation) -> None:
    """Write evaluation.json. Raises `RunError` as `check_answers` does."""
    check_answers(folder, wanted)
    folder.root.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.root)
    _write(folder, wanted)


def update_scoring(folder: EvalDir, config: EvalConfig) -> Evaluation:
    """Store `config`'s scoring settings (matching rule, synonyms) in the folder's evaluation.json and return it.

    Raises `RunError` if there are no answers, or answers to other questions than `config` asks.
    """
    present, changed = read_evaluation(folder), with_scoring(folder, config)
    changed = replace(changed, name=present.name if present else changed.name)
    if changed != present:
        _write(folder, changed)
    return changed


def with_scoring(folder: EvalDir, config: EvalConfig) -> Evaluation:
    """The folder's evaluation with `config`'s name and scoring settings; nothing is written.

    Raises as `update_scoring`.
    """
    present = read_evaluation(folder)
    if present is None:
        raise RunError(f"{folder.root} has no evaluation yet; run eval.run without --report-only first")
    known = present.generation_settings["model"], present.generation_settings["data"]
    wanted = describe_evaluation(config, present.label, *known, (present.items, present.source_items))
    kept = ("batch_size", "limit", MODEL_FILES)
    same = {key: present.generation_settings[key] for key in kept if key in present.generation_settings}
    asked = {**wanted.generation_settings, **same}
    _check_same(folder, config.model, present.generation_settings, asked)
    unused = {key: asked[key] for key in unused_settings(asked)}  # part of the protocol's hash all the same
    generation = {**present.generation_settings, **unused}
    return replace(present, name=config.name, generation_settings=generation, scoring_settings=wanted.scoring_settings)


def _failures_only(folder: EvalDir, present: Evaluation, wanted: Evaluation) -> bool:
    """Whether no item of the same data has an answer, as a text, and no process is writing one."""
    both = (present.generation_settings, wanted.generation_settings)
    same_data = both[0].get("data") == both[1].get("data")
    texts = all(task_output(str(settings.get("task"))) == "text" for settings in both)  # other tasks have more files
    return texts and same_data and not read_records(folder).predictions and not being_written(folder)


def _check_same(folder: EvalDir, model: str, present: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    unused = {*scoring_setting_names(str(wanted.get("task"))), *unused_settings(wanted)}
    usual = field_defaults(ProtocolConfig())
    present = {key: usual[key] for key in wanted if key in usual} | dict(present)  # settings newer than the answers
    present, wanted = _with_files(present, wanted)
    differences = changed_settings(present, wanted, ignored=unused)
    if not differences:
        return
    what = "answers to other questions"
    if present.get("model") != wanted.get("model"):
        others = changed_settings(present, wanted, ignored=(*unused, "model"))
        steps = [described_weights(model, str(settings.get("model"))) for settings in (present, wanted)]
        differences = [f"model was {steps[0]} and is now {steps[1]}", *others]
        what = what if others else "answers of other weights"
    raise OtherAnswersError(
        f"{folder.root} holds {what}: {'; '.join(differences)}. To keep them, give this evaluation another name "
        f"(--set name=NAME) or output folder; to start again, delete {folder.root}"
    )


def _with_files(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both settings with each file of the model folder as an entry, or without files where one does not know them."""
    known = MODEL_FILES in present and MODEL_FILES in wanted
    files = [settings.get(MODEL_FILES, {}) if known else {} for settings in (present, wanted)]
    plain = [{key: value for key, value in part.items() if key != MODEL_FILES} for part in (present, wanted)]
    named = [{f"the model's {name}": digest for name, digest in part.items()} for part in files]
    return plain[0] | named[0], plain[1] | named[1]


def _write(folder: EvalDir, evaluation: Evaluation) -> None:
    write_json(folder.config, asdict(evaluation))
