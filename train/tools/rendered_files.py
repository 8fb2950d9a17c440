"""Conversations of a JSON file as tokens and targets."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from configs.command_line import exit_on_user_error, output_has_colours
from configs.errors import DataError, UserError
from data_prep.sample import Turn, parse_turns
from train.chat.conversation import TokenizedConversation, highlight_targets
from train.chat.folder_template import FolderRenderer
from train.chat.render import ChatRenderer
from train.chat.renderer import Renderer
from train.chat.templates import FOLDER
from train.chat.tokenizer import load_tokenizer


def _records(file: Path) -> list[Any]:
    try:
        records = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(records, list):
        raise DataError(f"{file} contains a {type(records).__name__}; it must be a list of records")
    return records


def _rendered(renderer: Renderer, record: Any, number: int, arguments: argparse.Namespace) -> TokenizedConversation:
    try:
        return renderer.render(_conversation(record, number), arguments.max_length)
    except DataError as error:
        raise DataError(f"record {number}: {error}") from error


def _conversation(record: Any, number: int) -> tuple[Turn, ...]:
    try:
        return parse_turns(record["conversations"])
    except (KeyError, TypeError) as error:
        raise DataError(f"record {number} has no list 'conversations' of {{from, value}}") from error


def render_and_print(arguments: argparse.Namespace) -> None:
    """Render every record, in order."""
    try:
        tokenizer = load_tokenizer(arguments.tokenizer)
        renderer: Renderer
        if arguments.template == FOLDER:
            renderer = FolderRenderer(tokenizer, arguments.system_prompt)
        else:
            renderer = ChatRenderer(tokenizer, arguments.template, arguments.system_prompt)
        records = _records(arguments.conversations)
        rendered = [_rendered(renderer, record, number, arguments) for number, record in enumerate(records)]
    except UserError as error:
        exit_on_user_error(error)
    if arguments.show:
        for conversation in rendered:
            print(highlight_targets(conversation, renderer.tokenizer, colour=output_has_colours()), end="\n\n")
    if arguments.output:
        outputs = [{"input_ids": r.input_ids, "labels": r.labels} for r in rendered]
        arguments.output.write_text(json.dumps(outputs), encoding="utf-8")
    silent = sum(not any(r.supervised) for r in rendered)
    print(f"{len(rendered)} conversations rendered, {silent} without a target token", file=sys.stderr)
