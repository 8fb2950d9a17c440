"""Classifier-free guidance with its coefficient t swept, on scores that are stored: no forward is needed.

    python -m eval.guidance runs/NAME/eval/flowers102_class_scoring/export [--json]

The authors sweep t from 0 to 8 on the items that they report (Table 2's row is the best of nine). Here t is selected on
one half of the items, chosen by their ids, and accuracy is measured on the other half; the result of the authors'
method is given as well. Every form is swept:

    paper       probabilities, the prior of the question without its image, means over tokens
    official    log-probabilities, the mean over the images as the prior, sums: what the authors' code computes
    clean       log-probabilities, the prior without the image, sums
    literal     as paper, of the tokens' probabilities themselves (where protocol.token_scores had them stored)
    own         what the answers' protocol says, where that is none of these

In the first three, a name's probability is its tokens' product, or their geometric mean. A prior over images is the
mean over the half that chooses t.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_json, command_parser, emit_json, exit_on_user_error
from configs.errors import UserError
from configs.eval_dir import EvalDir
from eval.metrics.guidance import guidance_results
from eval.reports.guidance_page import as_text


def main(argv: Sequence[str] | None = None) -> None:
    """Sweep t on stored scores. Exits with code 2 if there are none."""
    parser = command_parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="answers of task class_likelihood of one model")
    add_json(parser)
    arguments = parser.parse_args(argv)
    try:
        results = guidance_results(EvalDir(arguments.folder))
    except UserError as error:
        exit_on_user_error(error)
    if not emit_json(arguments.json, results):
        print(as_text(results))


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
