"""The disk space and memory that a probe needs, before a model is loaded: for `--dry-run` and the check of the disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import RunError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from data_prep.byte_size import size
from data_prep.disk_space import free_space
from eval.models.factory import evaluated_folders
from eval.models.hidden_state_file import RowFormat
from eval.models.image_encoders import weights_identity
from eval.models.model_type import is_open_clip, model_type
from eval.probes.accuracy import BatchMaker
from eval.runner.batching import items_of, open_source
from eval.runner.evaluation_record import MODEL_FILES, read_evaluation
from eval.runner.model_files import model_files
from eval.runner.output_paths import output_paths_of
from eval.runner.predictions import read_records, select_records
from train.models.checked_loading import read_transformers_config
from train.models.registry import family_of

GIB = 2**30
RECORD_BYTES = 1540  # of a prediction line in memory, measured with 100,000 of them
OPEN_CLIP = 1024  # numbers of EVA01-g-14-plus's vector; which model has another, only its package knows


@dataclass(frozen=True, slots=True)
class Needs:
    """What one source takes: `items`, of which `stored` have their states in `folder` already."""

    config: EvalConfig
    folder: EvalDir
    items: int
    stored: int
    row_format: RowFormat

    @property
    def disk(self) -> int:
        """Bytes that extraction still writes."""
        return (self.items - self.stored) * self.row_format.row_bytes


def needs_of(config: EvalConfig) -> Needs:
    """What the evaluation `config`, which stores states, takes. Raises `DataError` if its source is not built."""
    (_, model), *_ = evaluated_folders(config)
    folder, items = states_folder(config)
    stored = len(select_records(read_records(folder), config.limit, config.protocol.item_draw).predictions)
    return Needs(config, folder, items, stored, _form(config, model))


def states_folder(config: EvalConfig) -> tuple[EvalDir, int]:
    """(folder of the states, how many items there are). Raises `DataError` if the source is not built."""
    label, model = evaluated_folders(config)[0]
    items = items_of(config, open_source(config))
    return output_paths_of(config).folder(label, model), len(items)


def complete(needs: Needs) -> bool:
    """Whether all states are stored and belong to the current weights: then no model is loaded."""
    present = read_evaluation(needs.folder)
    if present is None or needs.stored < needs.items or needs.folder.refusals() or is_open_clip(needs.config.model):
        return False  # the weights of an open_clip model are known only once it is loaded
    (_, model), *_ = evaluated_folders(needs.config)
    files = present.generation_settings.get(MODEL_FILES)
    same_files = files is None or files == model_files(model, present.generation_settings)
    return same_files and bool(present.generation_settings["model"] == weights_identity(model))


def _form(config: EvalConfig, model: Path) -> RowFormat:
    """The format of a row."""
    if is_open_clip(config.model):
        return RowFormat(("image_embeds",), OPEN_CLIP)
    if config.probe.part == "language_model":
        return RowFormat(config.probe.token_positions, int(family_of(model).text_config.hidden_size))
    known = read_transformers_config(model)
    if model_type(model) == "clip":
        return RowFormat(("image_embeds",), int(known.projection_dim))
    return RowFormat(("vision_pooled",), int(known.vision_config.hidden_size))


def check_disk(needs: Sequence[Needs]) -> None:
    """Raise `RunError` if the states that are not stored yet do not fit on the disk."""
    wanted, free = sum(need.disk for need in needs), free_space(needs[0].folder.root)[0]
    if wanted > free:
        raise RunError(
            f"the states of {sum(need.items - need.stored for need in needs):,} items take {size(wanted)} and "
            f"{needs[0].folder.root} has {size(free)} free; store fewer positions (probe.token_positions=[-1,mean] are "
            "those of Table 3), set output to another disk, or lower limit"
        )


def needs_values(needs: Sequence[Needs]) -> list[dict[str, Any]]:
    """What each source takes: items, those that are stored, bytes of all states and bytes that are still written."""
    return [
        {
            "source": need.config.source,
            "folder": str(need.folder.root),
            "items": need.items,
            "stored": need.stored,
            "positions": list(need.row_format.positions),
            "numbers_per_position": need.row_format.size,
            "bytes": need.items * need.row_format.row_bytes,
            "bytes_to_write": need.disk,
        }
        for need in needs
    ]


def needs_text(needs: Sequence[Needs], data_notes: Sequence[str] = ()) -> str:
    """Disk and memory, a line each; the first of `needs` is the source that heads are trained on."""
    lines = []
    for need in needs:
        form = need.row_format
        lines.append(
            f"{need.config.source}: {need.items:,} items, {need.stored:,} stored; "
            f"{len(form.positions)} x {form.size:,} numbers an item, {size(need.items * form.row_bytes)}, "
            f"in {need.folder.root}"
        )
    first, settings = needs[0], needs[0].config.probe
    maker = BatchMaker(settings, ())
    numbers = first.items * len(first.row_format.positions) * first.row_format.size
    memory = maker.layout(learning=True).bytes(numbers)
    fits = memory <= settings.memory_gib * GIB and settings.shuffle == "once"
    lines += [
        f"disk        {size(sum(need.disk for need in needs))} to write, {size(free_space(first.folder.root)[0])} free",
        f"memory      {size(max(need.items for need in needs) * RECORD_BYTES)} of records in every extracting process",
        f"            training lays out {size(memory)}; probe.memory_gib is {settings.memory_gib:g}: "
        + ("kept in memory" if fits else "read again from the disk in every epoch"),
    ]
    return "\n".join([*lines, *(f"data        {note}" for note in data_notes)])
