"""Makes a new LLaVA of a CLIP's vision tower and a language model, with an untrained projector.

    python -m train.toy.tiny_llava --clip runs/cifar10_clip --language train/assets/tiny_llava --output runs/start

LLaVA began in the same way: CLIP's tower, Vicuna's language model and an untrained projector. A usual training, such as
configs/cifar10_base.yaml, then trains the projector. The same folders and seed give the same bytes.

The language model is a LLaVA's, or any Llama, Mistral or Qwen2 as a folder or GGUF file (SmolLM2, Qwen2.5, TinyLlama).
Its tokenizer stays as it is but for the token `<image>`, and its chat template comes with it (`chat.template: folder`).
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import CLIPModel, LlavaForConditionalGeneration

from configs.command_line import add_output_folder, command_parser, exit_on_user_error
from configs.errors import ConfigError, UserError
from configs.run_dir import MODEL_CONFIG
from train.models.checked_loading import load_checked
from train.toy.base_projector import assemble, save
from train.toy.language_model import add_image_token, read_language


def join(clip: Path, language: Path, output: Path, *, seed: int) -> LlavaForConditionalGeneration:
    """Write the LLaVA made of both to `output`, in float32, and return it.

    Raises `ConfigError` for a folder of another model.
    """
    _check(clip, "clip", "python -m train.toy.tiny_clip makes one")
    found = read_language(language)
    tower = load_checked(CLIPModel, clip).vision_model
    add_image_token(found)
    torch.manual_seed(seed)  # of the projector
    places = (tower.config.image_size // tower.config.patch_size) ** 2
    model = assemble(tower, found.model, found.tokenizer, places)
    save(model, found.tokenizer, output, found.model.generation_config)
    return model


def _check(folder: Path, kind: str, advice: str) -> None:
    """Raise `ConfigError` unless `folder` holds a model of that kind."""
    file = folder / MODEL_CONFIG
    found = json.loads(file.read_text(encoding="utf-8-sig")).get("model_type") if file.is_file() else None
    if found != kind:
        raise ConfigError(f"{folder} contains {f'a {found}' if found else 'no model'}, not a {kind}; {advice}")


def main(argv: Sequence[str] | None = None) -> None:
    """The command line. Exits with code 2 on a mistake."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "--clip", type=Path, required=True, metavar="DIR", help="CLIP model folder, as written by train.toy.tiny_clip"
    )
    parser.add_argument(
        "--language",
        type=Path,
        required=True,
        metavar="PATH",
        help="folder of a LLaVA or a language model (llama, mistral, qwen2), or a .gguf file",
    )
    add_output_folder(parser, "the model")
    parser.add_argument("--seed", type=int, default=0, help="of the new projector")
    options = parser.parse_args(argv)
    try:
        model = join(options.clip, options.language, options.output, seed=options.seed)
    except UserError as error:
        exit_on_user_error(error)
    print(
        f"wrote {options.output}: {model.num_parameters():,} weights, {model.config.image_seq_length} tokens per image"
    )


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
