"""What loading a model folder would find wrong, without loading a weight: for `--dry-run`.

Names and shapes of the weights are compared with config.json by the headers of the files (`check_weight_headers`);
tokenizer, chat template and image processor are those that the evaluation would use.
"""

from pathlib import Path

from transformers import Blip2VisionModel, CLIPModel

from configs.evaluation import EvalConfig
from configs.run_dir import CheckpointDir, RunDir
from configs.trained import protocol_as_trained, trained_of
from eval.models.clip import read_tokenizer
from eval.models.image_encoders import BLIP2_OTHER_PARTS, VISION_NAMES, check_processor, own_processor
from eval.models.model_type import ENCODERS, model_type
from eval.models.prompt_style import resolve_style
from eval.models.registry import backend_name
from eval.tasks.registry import task_output
from train.chat.render import ChatRenderer
from train.chat.tokenizer import load_tokenizer
from train.models.checked_loading import check_vocabulary, check_weight_headers, read_transformers_config
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
        _check_encoder(folder, str(kind), texts=not encoder)
    else:
        _check_generative(config, folder)
    return True


def _check_encoder(folder: Path, kind: str, *, texts: bool) -> None:
    config = read_transformers_config(folder)
    if any(folder.glob("*.safetensors")):  # some published CLIPs have pytorch_model.bin only
        if kind == "clip":
            check_weight_headers(CLIPModel, folder, config)
        else:
            check_weight_headers(
                Blip2VisionModel,
                folder,
                config.vision_config,
                key_mapping=VISION_NAMES,
                other_parts=BLIP2_OTHER_PARTS,
            )
    check_processor(folder, own_processor(folder), int(config.vision_config.image_size))
    if texts:
        read_tokenizer(folder)


def _check_generative(config: EvalConfig, folder: Path) -> None:
    family, protocol = family_of(folder), protocol_as_trained(config.protocol, trained_of(config.model))
    check_weight_headers(family.model_class, folder, family.config)
    tokenizer = load_tokenizer(folder)
    check_vocabulary(folder, tokenizer, int(family.text_config.vocab_size))
    style = resolve_style(protocol, family)
    ChatRenderer(tokenizer, style.template, style.system_prompt, family.end_token)
    family.image_processor(protocol.image_mode, protocol.image_size)
