"""Writes an article on each class of the demo world, a text file a class, in place of Wikipedia's pages.

python -m data_prep.toy_world.articles --output data/demo_articles
python -m data_prep.imagewikiqa --config configs/wikiqa/demo.yaml --dry-run
"""

from collections.abc import Sequence

from configs.command_line import add_output_folder, command_parser
from data_prep.atomic import write_bytes
from data_prep.toy_world.expert import sentences
from data_prep.toy_world.facts import toy_classes


def main(argv: Sequence[str] | None = None) -> None:
    """Write the articles."""
    parser = command_parser(__doc__)
    add_output_folder(parser, "the articles")
    folder = parser.parse_args(argv).output
    folder.mkdir(parents=True, exist_ok=True)
    for toy_class in toy_classes(0):
        write_bytes(folder / f"{toy_class.name.replace(' ', '_')}.txt", " ".join(sentences(toy_class)).encode() + b"\n")
    print(f"{len(toy_classes(0))} articles in {folder}")


if __name__ == "__main__":
    main()
