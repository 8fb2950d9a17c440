"""Exported models: a folder that plain `LlavaForConditionalGeneration.from_pretrained` loads, and where to find it.

    python -m train.export runs/NAME [--step N] [--base FOLDER] [--keep-adapter] [--lora-onto FOLDER] [--output FOLDER]
    python -m train.export runs/NAME --push OWNER/NAME      with a model card, to the model hub

One CPU process takes the base folder and a checkpoint of any ZeRO stage and world size. LoRA is merged in fp32, or
kept as a peft adapter next to the base with its trained projector. The checkpoint records the
base's identity; another base is refused: a merge onto the wrong base gives a model that was never trained.
An export that `python -m eval.choose` chose is replaced only by `--step N --output RUN/export`; `--model-card` and
`--push` take the export that is there.
`--lora-onto` makes such a merge on purpose, as the paper's authors did (`train.models.language_weights`), in a separate
folder.
"""

from pathlib import Path

from configs.command_line import add_output_folder, command_parser


def main() -> None:
    """Export one checkpoint of a run."""
    parser = command_parser(__doc__)
    parser.add_argument("run", type=Path, help="run folder, such as runs/demo_mix")
    parser.add_argument(
        "--step",
        type=int,
        help="step of the checkpoint (default: the best if checkpoint.keep is best, else the newest)",
    )
    parser.add_argument("--base", help="the base model, if it is no longer where the run's config says")
    add_output_folder(parser, "the model", default="RUN/export")
    parser.add_argument("--keep-adapter", action="store_true", help="write LoRA as a peft adapter, unmerged")
    parser.add_argument("--lora-onto", metavar="FOLDER", help="merge LoRA onto this model's language weights instead")
    parser.add_argument("--model-card", action="store_true", help="also write README.md: header, scores, training")
    parser.add_argument(
        "--push", metavar="OWNER/NAME", help="upload the export with its card to the model hub (private)"
    )
    arguments = parser.parse_args()
    from train.export_command import export_and_print  # after parsing: --help needs no torch

    export_and_print(arguments)


if __name__ == "__main__":
    main()
