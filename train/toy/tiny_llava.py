"""Makes a new LLaVA of a CLIP's vision tower and a language model, with an untrained projector.

    python -m train.toy.tiny_llava --clip runs/cifar10_clip --language train/assets/tiny_llava --output runs/start

LLaVA began in the same way: CLIP's tower, Vicuna's language model and an untrained projector. A usual training, such as
configs/cifar10_base.yaml, then trains the projector. The same folders and seed give the same bytes.

The language model is a LLaVA's, or any Llama, Mistral or Qwen2 as a folder or GGUF file (SmolLM2, Qwen2.5, TinyLlama).
Its tokenizer stays as it is but for the token `<image>`, and its chat template comes with it (`chat.template: folder`).
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_output_folder, command_parser


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
    from train.toy.llava_join import join_and_print  # after parsing: --help needs no torch

    join_and_print(options)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
