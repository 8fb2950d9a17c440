"""What loading a model folder would find wrong, without loading a weight: for `--dry-run`.

Names and shapes of the weights are compared with config.json by the headers of the files (`check_weight_headers`);
tokenizer, chat template and image processor are those that the evaluation would use.
"""

from pathlib import Path

from configs.evaluation import EvalConfig
from configs.run_dir import CheckpointDir, RunDir
from configs.trained import protocol_as_trained, training_record_of_model
from eval.models.model_type import ENCODERS, model_type
from eval.models.prompt_style import resolve_style
from eval.models.registry import backend_name
from eval.tasks.registry import task_output
from train.chat.tokenizer import load_tokenizer
from train.models.checked_loading import check_image_token, check_vocabulary, check_weight_headers
from train.models.model_folder import check_generation_settings
from train.models.registry import family_of


def check_model_folder(config: EvalConfig) -> bool:
    """Whether `config.model` is a folder that could be checked: not an API, a hub id, or a run without an export.

    Raises `ConfigError` if the model could not be loaded or does not fit the protocol.
    """
    folder = Path(config.model)
    if (run := RunDir(folder)).config.is_file():
        folder = run.export
    exported_later = CheckpointDir(folder).state.is_file() or not folder.is_dir() or not any(folder.iterdir())
    if backend_name(config.model) is not None or exported_later:
        return False
    kind = model_type(folder)
    encoder = task_output(config.protocol.task) == "hidden_states" and config.probe.part == "encoder"
    if kind == "clip" or (encoder and kind in ENCODERS):
        from eval.models.clip import read_tokenizer  # transformers' CLIP takes a while to import
        from eval.models.image_encoders import check_encoder_folder

        check_encoder_folder(folder, str(kind))
        if not encoder:
            read_tokenizer(folder)
    else:
        _check_generative(config, folder)
    return True


def _check_generative(config: EvalConfig, folder: Path) -> None:
    protocol = protocol_as_trained(config.protocol, training_record_of_model(config.model))
    family = family_of(folder).with_pixels(protocol.min_pixels, protocol.max_pixels)
    check_weight_headers(family.model_class, folder, family.config)
    tokenizer = load_tokenizer(folder)
    rows = int(family.text_config.vocab_size)
    check_vocabulary(folder, tokenizer, rows)
    check_image_token(folder, tokenizer, (family.image_token, family.image_token_id), rows)
    check_generation_settings(folder)
    style = resolve_style(protocol, family)
    family.renderer(tokenizer, style.template, style.system_prompt)
    family.image_processor(protocol.image_mode, protocol.image_size)
    if protocol.task == "trained_probe":
        from eval.models.trained_probe import checked_probe

        checked_probe(folder, protocol, int(family.text_config.hidden_size))
