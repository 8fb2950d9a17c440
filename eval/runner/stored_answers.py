"""The folder of stored answers that belongs to a configuration, and whether they are those of today's weights."""

from pathlib import Path

from configs.errors import ConfigError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from eval.models.factory import evaluated_folders
from eval.models.image_encoders import weights_identity
from eval.runner.batching import open_source
from eval.runner.evaluation_record import check_answers, describe_evaluation, read_evaluation, with_batch_settings
from eval.runner.model_files import with_model_files
from eval.runner.output_paths import NO_RUN, output_paths_of


def answers_folder(config: EvalConfig) -> tuple[EvalDir, Path]:
    """(folder of the first model's answers or hidden states, the model's own folder).

    A model that is no longer on this machine is named by its path: its stored answers can be reported without it.
    """
    try:
        label, model = evaluated_folders(config)[0]
    except ConfigError:
        label, model = NO_RUN, Path(config.model)
    return output_paths_of(config).folder(label, model), model


def check_current(config: EvalConfig) -> EvalDir:
    """The folder of the first model's answers or hidden states, if there are any.

    Raises `OtherAnswersError` if they are those of other weights or files than the model's folder holds now (an
    open_clip model is loaded to find out), about other items, or, where an answer depends on its batch, of other
    batches.
    """
    folder, model = answers_folder(config)
    present = read_evaluation(folder)
    if present is not None:
        identity = weights_identity(model) if model.is_dir() else present.generation_settings["model"]
        data = open_source(config).fingerprint
        wanted = with_model_files(describe_evaluation(config, present.label, identity, data, (0, 0)), model)
        check_answers(
            folder, with_batch_settings(wanted, config) if "batch_size" in present.generation_settings else wanted
        )
    return folder
