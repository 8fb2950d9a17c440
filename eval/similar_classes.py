r"""Writes which classes a CLIP finds most alike, as hard candidates for K-way choices; no model is run.

    python -m eval.run --config configs/eval/cifar10_clip.yaml
    python -m eval.similar_classes runs/eval/cifar10_clip/* --by class --output runs/cifar10_similar.json
    python -m eval.run --config configs/eval/cifar10_clip.yaml --report-only \
        --set protocol.candidates=3 --set protocol.candidate_draw=similar_class \
        --set protocol.candidate_file=runs/cifar10_similar.json

    python -m eval.similar_classes --tree cifar10 --classes cifar10 --output runs/cifar10_siblings.json

The similarities are the cosines that an evaluation of task zero_shot stored. By class: the mean cosine between the
images of a class and the sentence of another class; every item of a class then gets the same candidates
(protocol.candidate_draw similar_class). By image: the cosines of the image alone (similar_image).

With --tree the file holds the siblings of each class: the classes that have a parent in common with it in a tree of
names (a folder with WordNet's data.noun and index.noun, a JSON file {name: [parents]}, or a shipped tree), for
protocol.candidate_draw siblings, which draws among them by the item's id.

The candidates are the hardest ones for this CLIP. Its own accuracy among candidates by image is therefore the one
among all classes: if another class is nearest, it is a candidate.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_json, at_least, command_parser, emit_json, exit_on_user_error, output_file
from configs.errors import ConfigError, UserError
from configs.eval_dir import EvalDir

SHOWN = 10  # classes that are printed
NAMED = 5  # similar classes of each


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file and print the most similar classes. Exits with code 2 if no cosines are stored."""
    parser = command_parser(__doc__)
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="answers of task zero_shot of one model")
    parser.add_argument("--tree", metavar="TREE", help="siblings in this tree of names, in place of FOLDER")
    parser.add_argument("--classes", metavar="LIST", help="class list of --tree: a shipped one, a file, or shards")
    parser.add_argument("--by", choices=("class", "image"), default="class", help="similar to what (default class)")
    parser.add_argument(
        "--keep", type=at_least(1), default=100, metavar="N", help="similar classes of each to keep (default 100)"
    )
    parser.add_argument("--output", type=output_file, required=True, metavar="FILE", help="the JSON file to write")
    add_json(parser)
    arguments = parser.parse_args(argv)
    from eval.class_scores.neighbours import write_neighbours  # after parsing: --help needs no numpy
    from eval.metrics.siblings import siblings
    from eval.metrics.similar_classes import as_text, similar_classes

    try:
        given = [value is not None for value in (arguments.folder, arguments.tree, arguments.classes)]
        if given not in ([True, False, False], [False, True, True]):
            raise ConfigError("give FOLDER, or --tree with --classes")
        if arguments.tree is not None:
            found = siblings(arguments.tree, arguments.classes)
        else:
            found = similar_classes(EvalDir(arguments.folder), arguments.by, arguments.keep)
        write_neighbours(arguments.output, found)
    except UserError as error:
        exit_on_user_error(error)
    shown = {key: found.names(key)[:NAMED] for key in list(found.neighbours)[:SHOWN]}
    values = {"file": str(arguments.output), "by": found.by, "of": dict(found.of), "number": len(found.neighbours)}
    if not emit_json(arguments.json, values | {"most_similar": shown}):
        print(as_text(found, shown))
        print(arguments.output)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
