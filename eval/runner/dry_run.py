"""What an evaluation would do, without a model: for `python -m eval.run --dry-run`."""

from collections.abc import Sequence
from pathlib import Path

from configs.errors import ConfigError
from configs.evaluation import EvalConfig, is_api
from configs.locations import is_hub_id, near_folders
from configs.run_dir import RunDir
from configs.trained import config_of_run, training_record_of_model
from data_prep.byte_size import size as size_in_words
from data_prep.class_names import load_class_list
from data_prep.shard_index import id_hash
from data_prep.source_match import absent_paths
from eval.class_scores.table import stored_bytes
from eval.runner.as_trained import differences
from eval.runner.batching import Share, batches_of, items_of, open_source
from eval.runner.checked_folder import CheckedFolder
from eval.runner.class_check import check_classes
from eval.runner.output_paths import NO_RUN, output_paths_of
from eval.runner.predictions import read_records
from eval.runner.shown_questions import shown_questions
from eval.runner.training_data import training_notes
from eval.tasks.registry import task_output

FITS = "\nmodel folder: weights, tokenizer and image processor fit its config.json and the protocol"


def preview(config: EvalConfig, share: Share) -> str:
    """Model, items, folder, and the first questions with their expected answers. Raises as `check_classes`."""
    shards = open_source(config)
    items = items_of(config, shards)
    own = [item for batch in batches_of(items, share, config.batch_size) for item in batch]
    api = [_requests(config, shards.index["id_hash"][own].tolist())] if is_api(config.model) else []
    lines = [
        f"model       {config.model} (checkpoint: {config.checkpoint})",
        f"source      {config.source}: {len(items):,} of {len(shards):,} items, {len(own):,} for this worker"
        + _why_none(config, share, len(items) - len(own) if not own else 0),
        f"protocol    {config.protocol.task}, answers of up to {config.protocol.max_new_tokens} tokens",
        *_as_trained(config),
        f"answers in  {output_paths_of(config).root}",
        *(f"raw data    {note}" for note in absent_paths(config.data, (config.source,))),
        *api,
        *_misaligned_cost(config, len(own)),
        *_stored_scores(config, len(own)),
        *(f"classes     {note}" for note in check_classes(config, shards)),
        *(f"training    {note}" for note in training_notes(config)),
    ]
    return "\n".join([*lines, shown_questions(config, shards, items)])


def _why_none(config: EvalConfig, share: Share, others: int) -> str:
    """Why a worker has no item while the other workers have `others`."""
    if not others:
        return ""
    batches = -(-others // config.batch_size)
    return f" (there are {batches:,} batches of up to {config.batch_size} for {share.workers} workers: use fewer)"


def model_line(config: EvalConfig) -> str:
    """What is known of the model without loading a weight.

    Raises `ConfigError` if its folder could not be loaded, or if it is a run without the checkpoint that is asked for.
    """
    run = RunDir(Path(config.model))
    if run.config.is_file() and config.checkpoint.isdigit() and int(config.checkpoint) not in run.steps():
        present = ", ".join(map(str, run.steps())) or "none"
        raise ConfigError(f"checkpoint is {config.checkpoint}; the steps in {run.checkpoints} are: {present}")
    if not is_api(config.model) and Path(config.model).is_dir():
        checked = CheckedFolder(config)
        if checked.passed():
            return f"{FITS} (unchanged since it was exported, loaded or checked)"
        from eval.models.folder_check import check_model_folder  # loads torch

        if check_model_folder(config):
            checked.remember()
            return FITS
    if is_api(config.model):
        return "\nmodel folder: not checked, the model is behind an API"
    if Path(config.model).is_dir():
        from train.exported_model import check_checkpoints  # loads torch

        check_checkpoints(config.model, config.checkpoint)
        return "\nmodel folder: not checked, it is exported from a checkpoint when the evaluation starts"
    if is_hub_id(config.model):
        return f"\nmodel folder: not checked, {config.model} is fetched from the hub when the evaluation starts"
    if file := config_of_run(run):
        return f"\nmodel folder: not checked, there is no folder {config.model} yet; {file} trains it"
    raise ConfigError(
        f"model is {config.model}, and there is no such folder, nor a file in configs/ that describes a run of this "
        f"name{near_folders(run.root)}"
    )


def _as_trained(config: EvalConfig) -> list[str]:
    """Whether a trained model is asked as in training, where it is the answer to `why is that my prompt?`."""
    trained = training_record_of_model(config.model)
    if trained is None:
        return []
    different = differences(config, trained)
    if not different:
        return [f"as trained  prompt, template, system prompt, image mode and precision are those of {trained.where}"]
    return [f"not as trained: {difference}" for difference in different]


def _misaligned_cost(config: EvalConfig, items: int) -> list[str]:
    """What class names by misaligned ids take: they share no tree."""
    protocol = config.protocol
    if protocol.task != "class_likelihood" or protocol.class_token_ids == "in_context":
        return []
    names = len(load_class_list(protocol.classes or "").names)
    who = " with a BLIP" if protocol.class_token_ids == "official" else ""
    return [
        f"cost        class_token_ids {protocol.class_token_ids}: {items * names:,} forward passes of prompt and name"
        f"{who}, one for each of {names:,} names of every image; protocol.class_token_ids=in_context takes one of all"
    ]


def _stored_scores(config: EvalConfig, items: int) -> list[str]:
    """What the scores of all classes take on the disk, where they are stored with the answers."""
    protocol = config.protocol
    if task_output(protocol.task) not in ("class_likelihoods", "similarities", "probe_scores"):
        return []
    size = stored_bytes(len(load_class_list(protocol.classes or "").names))
    size *= 2 if protocol.token_scores == "probability" and protocol.task == "class_likelihood" else 1
    return [f"scores      of all classes are stored: {size:,} bytes an item, {size_in_words(size * items)} in all"]


def _requests(config: EvalConfig, hashes: Sequence[int]) -> str:
    """How many requests an API would get; `hashes` are those of this worker's items."""
    answered = read_records(output_paths_of(config).folder(NO_RUN, Path(config.model))).predictions
    done = {id_hash(key) for key in answered}
    left = sum(hashed not in done for hashed in hashes)
    return (
        f"requests    {left:,} of {len(hashes):,} questions not answered yet, each sent up to {config.api.attempts} "
        "times; --set limit=N asks fewer"
    )
