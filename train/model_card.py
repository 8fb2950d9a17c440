"""The README.md of an exported model: the hub's YAML header, how to ask it, what it was trained on, and its scores.

The scores are those of the run's evaluations (`runs/NAME/eval/*/*/report.json`) that measured exactly these weights,
each with its protocol, number of items and 95 % interval. Of the hub's header only what is known is written: a licence
and data sets are the user's to add. Paths and names of machines stay out of it.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

import yaml

from configs.eval_dir import EvalDir
from configs.load import load_config, to_yaml
from configs.locations import is_hub_id
from configs.protocol import UNCLASSED
from configs.run import RunConfig
from configs.run_dir import ExportDir, RunDir
from data_prep.provenance import read_starts
from train.models.export_choice import choice_phrase
from train.models.fingerprint import model_identity
from train.models.model_folder import read_object

CARD = "README.md"
SHOWN_CLASSES = 50
SECTIONS = ("model", "chat", "optim", "loss", "train")


def write_model_card(run: RunDir, output: Path, hub_id: str | None = None) -> Path:
    """Write the card of the export in `output`, which `run` trained; returns its path. `hub_id`: as `model_card`."""
    file = output / CARD
    file.write_text(model_card(run, output, hub_id), encoding="utf-8")
    return file


def model_card(run: RunDir, output: Path, hub_id: str | None = None) -> str:
    """The card as text; its example loads the model from `hub_id` on the hub, without one from the card's folder."""
    record = read_object(ExportDir(output).record)
    config, _ = load_config(RunConfig, run.config)
    reports = scores_of(run, output)
    header = yaml.safe_dump(_header(config, record, reports), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{header}---",
        f"# {config.name}",
        f"{_code(record['base'])}, fine-tuned to classify images ({trained_parameters(config)}) with vlm-classify, "
        "after [Why are Visually-Grounded Language Models Bad at Image Classification?](https://arxiv.org/abs/2405.18415)",
        _scores(reports),
        _classes(output),
        _usage(output, record, hub_id),
        _training(config, record, run),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def scores_of(run: RunDir, output: Path) -> list[dict[str, Any]]:
    """The reports about the weights of the export in `output`, sorted by name; of one evaluation that of most items.

    A report counts only if it names the identity of these weights (`train.models.fingerprint`): a folder `export` may
    have held another checkpoint when it was evaluated.
    """
    weights = _evaluated_weights(run, output)
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(run.evaluations.glob(f"*/*/{EvalDir(Path()).report('json').name}")):
        report = read_object(file)
        scored = report.get("accuracy", {}).get("value") is not None
        if not scored or report.get("protocol", {}).get("model") not in weights:
            continue
        best = found.get(report["name"])
        if best is None or report["accuracy"]["n"] > best["accuracy"]["n"]:
            found[report["name"]] = report
    return [found[name] for name in sorted(found)]


def _evaluated_weights(run: RunDir, output: Path) -> set[str]:
    """The identity of the weights in `output`; for an adapter that of the same checkpoint's merged exports."""
    record = read_object(ExportDir(output).record)
    if not record["adapter"]:
        return {model_identity(output)}
    merged = [folder for folder in (run.export, run.export_of(record["step"])) if ExportDir(folder).record.is_file()]
    return {model_identity(folder) for folder in merged if _same_checkpoint(ExportDir(folder), record)}


def _same_checkpoint(export: ExportDir, record: Mapping[str, Any]) -> bool:
    other = read_object(export.record)
    same = all(other.get(key) == record[key] for key in ("checkpoint_sha256", "step"))
    return same and not other.get("adapter") and not other.get("lora_onto")


def _header(config: RunConfig, record: Mapping[str, Any], reports: list[dict[str, Any]]) -> dict[str, Any]:
    """https://huggingface.co/docs/hub/model-cards: the fields that the hub reads."""
    header: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "image-text-to-text"}
    if is_hub_id(str(record["base"])):
        relation = "adapter" if record["adapter"] else "finetune"
        header |= {"base_model": record["base"], "base_model_relation": relation}
    header["tags"] = ["vlm-classify", "image-classification"]
    if reports:
        header["model-index"] = [{"name": config.name, "results": [_result(report) for report in reports]}]
    return header


def _result(report: Mapping[str, Any]) -> dict[str, Any]:
    name = _measure(report)
    metric = {
        "type": name.lower().replace(" ", "_"),
        "name": f"{name}, protocol {_protocol(report)}, n = {report['accuracy']['n']}",
        "value": round(100 * report["accuracy"]["value"], 2),
    }
    data = {"name": report["source"], "type": report["source"]}
    asked = report["protocol"].get("task") in UNCLASSED
    task = {"type": "visual-question-answering" if asked else "image-classification", "name": report["name"]}
    return {"task": task, "dataset": data, "metrics": [metric]}


def _measure(report: Mapping[str, Any]) -> str:
    return "VQA accuracy" if report["protocol"].get("task") == "vqa" else "accuracy"


def _protocol(report: Mapping[str, Any]) -> str:
    return f"{report['protocol'].get('name', 'custom')} {report['protocol']['hash']}"


def _scores(reports: list[dict[str, Any]]) -> str:
    if not reports:
        return "## Scores\n\nThis export has not been evaluated yet."
    lines = [
        "| evaluation | items | accuracy | 95 % interval | n | protocol |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for report in reports:
        rate = report["accuracy"]
        cells = (
            report["name"],
            report["source"],
            f"{100 * rate['value']:.1f} %{' (VQA accuracy)' if _measure(report) != 'accuracy' else ''}",
            f"{100 * rate['low']:.1f} to {100 * rate['high']:.1f} %",
            f"{rate['n']:,}",
            _protocol(report),
        )
        lines.append(f"| {' | '.join(_cell(str(cell)) for cell in cells)} |")
    notes = [f"- {report['name']}: {_public(note)}." for report in reports for note in report.get("data_notes", ())]
    return "\n".join(["## Scores", "", *lines, *([""] if notes else []), *notes])


def _public(note: str) -> str:
    """A note about data without folders of this machine, and without the command that lists more on it.

    >>> _public("1 of 9 left out: 1 x not an image file (/data/My Photos/a b.mov); all: python -m tool x")
    '1 of 9 left out: 1 x not an image file (a b.mov)'
    """
    return re.sub(r"(?<![\w./])(?:/[^/\n();,']+)*/([^/\n();,']+)", r"\1", note.partition("; all: python ")[0])


def _classes(output: Path) -> str:
    """The class names that the training had, which are the answers; of a long list the first ones and the file."""
    file = ExportDir(output).class_names
    if not file.is_file():
        return ""
    names = json.loads(file.read_text(encoding="utf-8"))
    shown = ", ".join(_code(name) for name in names[:SHOWN_CLASSES])
    rest = (
        f", and {len(names) - SHOWN_CLASSES:,} more, all of them in `{file.name}`" if len(names) > SHOWN_CLASSES else ""
    )
    return f"## Classes\n\nThe {len(names):,} class names of the training, which are its answers: {shown}{rest}."


def _usage(output: Path, record: Mapping[str, Any], hub_id: str | None) -> str:
    if record["adapter"]:
        return f"## Use\n\nThe folder `{ExportDir(output).adapter.name}` is a peft adapter for the weights next to it."
    note = "" if hub_id else "  # this folder, if Python was started in it; else its path"
    loaded = f'vlm_classify.load_model("{hub_id or "."}"){note}'
    code = f"""import vlm_classify

model = {loaded}
print(model.ask("photo.jpg"))"""
    chat = record["chat"]
    return (
        f"## Use\n\n```python\n{code}\n```\n\nPlain transformers loads it too (`AutoModelForImageTextToText`). It was "
        f"trained with the chat template `{chat['template']}` and the system prompt `{chat['system_prompt']}`."
    )


def trained_parameters(config: RunConfig) -> str:
    """What a run trained, as a phrase."""
    model = config.model
    if model.mode == "selective":
        return f"the parameters that `{model.selective}` finds"
    if model.mode == "lora":
        lora = "LoRA" if model.trained_as == "lora" else f"LoRA ({model.trained_as})"
        return lora if "projector" in model.lora.scope else f"{lora} and the projector"
    if model.mode == "projector":
        return "the projector"
    optim = config.optim
    rates = {"language model": optim.lr_language, "projector": optim.lr_projector, "vision tower": optim.lr_vision}
    trained = [f"the {part}" for part, rate in rates.items() if rate]
    return "all parameters" if len(trained) == len(rates) else " and ".join(trained)


def _training(config: RunConfig, record: Mapping[str, Any], run: RunDir) -> str:
    recipe = (record.get("recipe") or {}).get("name")
    rows = [
        ("base", f"{_code(record['base'])}, weights {record['base_identity'][:12]}"),
        ("trained", trained_parameters(config)),
        ("data", ", ".join(f"{name} ({config.data.sources[name].reader})" for name in config.train.sources)),
        ("recipe", recipe or "none"),
        ("steps", f"{record['step']:,} of {config.train.global_batch} samples"),
        ("peak learning rate of the projector", str(config.optim.lr_projector)),
    ]
    if chosen := record.get("chosen"):
        rows.append(("checkpoint", choice_phrase(chosen)))
    if starts := read_starts(run.provenance):
        last = starts[-1]
        versions = ", ".join(f"{name} {version}" for name, version in last.get("packages", {}).items())
        code = last.get("code")
        rows.append(("packages", versions))
        rows += [("commit", code["commit"] + ("" if code.get("clean") else ", with changes"))] if code else []
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows)
    return f"## Training\n\n| | |\n| --- | --- |\n{table}\n\nSettings:\n\n```yaml\n{_settings(config)}\n```"


def _settings(config: RunConfig) -> str:
    """The sections that decide how the model is trained; none of them holds a path of the data."""
    return "\n".join(f"{name}:\n{indent(to_yaml(getattr(config, name)).rstrip(), '  ')}" for name in SECTIONS)


def _code(text: str) -> str:
    return f"[{text}](https://huggingface.co/{text})" if is_hub_id(text) else f"`{text}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
