"""The scores of all names of a class list for one image."""

import argparse
from pathlib import Path
from typing import Any

import torch

from configs.command_line import emit_json, exit_on_user_error
from configs.data import APPLY
from configs.errors import ConfigError, UserError
from configs.protocol import ProtocolConfig
from configs.trained import training_record_of_model
from data_prep.class_names import load_class_list
from data_prep.orientation import UprightImage
from eval.class_scores.rules import Rule
from eval.models.class_likelihood.scorer import ClassScorer
from eval.models.class_likelihood.single_image import best_of_image, score_image
from eval.models.class_likelihood.tree_forward import scoring_attention
from eval.models.generate import TextPredictor
from train.exported_model import model_folders
from train.models.loading import load_model

MAX_PRINTED_CLASSES = 10  # classes, without --json


def score_and_print(arguments: argparse.Namespace) -> None:
    """Score one image. Exits with code 2 on a mistake in the arguments."""
    try:
        if not arguments.image.is_file():
            raise ConfigError(f"no image {arguments.image}; give the path of a picture")
        rule = Rule(arguments.rule, arguments.guidance, arguments.cfg_form, tokens=arguments.token_scores)
        names = load_class_list(arguments.classes).names
        protocol = ProtocolConfig(
            answer_prefix=arguments.answer_prefix,
            template=arguments.template,
            system_prompt=arguments.system_prompt,
            image_mode=arguments.image_mode,
            max_new_tokens=1,
        )
        device = "cuda" if torch.cuda.is_available() else "cpu"
        attention = scoring_attention("auto", device, arguments.dtype)
        ((_, folder),) = model_folders(arguments.model)  # of a run its export
        loaded = load_model(str(folder), None, arguments.dtype, attention, device)
        run = best_of_image if arguments.top1 else score_image
        scorer = ClassScorer(TextPredictor(loaded, protocol))
        result = run(scorer, arguments.prompt, _image_as_trained(arguments.image, folder), names, rule)
    except UserError as error:
        exit_on_user_error(error)
    if not emit_json(arguments.json, result):
        print(_as_text(result))


def _image_as_trained(file: Path, model: Path) -> bytes:
    """The bytes of the image, turned upright when they are decoded if the model was trained so (`data.exif`)."""
    trained = training_record_of_model(str(model))
    image = file.read_bytes()
    return UprightImage(image) if trained is not None and trained.data.exif == APPLY else image


def _as_text(result: dict[str, Any]) -> str:
    lines = [f"{result['top1']}  ({result['tokens_forwarded']:,} tokens forwarded)"]
    if "nodes_expanded" in result:
        lines.append(f"score {result['score']:.4f}, {result['nodes_expanded']:,} of {result['inner_nodes']:,} nodes")
    ranked = sorted(result.get("classes", ()), key=lambda entry: -entry["score"])
    return "\n".join([*lines, *(f"{entry['score']:10.4f}  {entry['name']}" for entry in ranked[:MAX_PRINTED_CLASSES])])
