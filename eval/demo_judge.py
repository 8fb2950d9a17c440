"""A judge without an API: serves the graders mm_vet and llm_judge on this machine, by looking for the right answer.

    python -m eval.demo_judge --port 8899
    OPENAI_BASE_URL=http://127.0.0.1:8899/v1 python -m eval.grade --config configs/eval/demo_open_answers.yaml

It speaks the OpenAI wire format. An answer is right (1.0) if it contains the ground truth, case ignored; else wrong
(0.0). It shows that a grading runs; no language model judges. Ctrl-C ends it.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import at_least, command_parser, exit_on_user_error
from configs.errors import RunError
from data_prep.toy_world.chat_api import completion, serving, wait_for_end

CLASS, ANSWER = re.compile(r"^Right class: (.*)$", re.MULTILINE), re.compile(r"^Answer: (.*)$", re.MULTILINE)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C. Exits with code 2 if the port is taken."""
    parser = command_parser(__doc__)
    parser.add_argument("--port", type=at_least(1), default=8899, metavar="N", help="port (default 8899)")
    arguments = parser.parse_args(argv)
    try:
        with serving(lambda request: completion(judged(request.text)), arguments.port) as address:
            print(f"judge at {address}; Ctrl-C ends it", flush=True)
            wait_for_end()
    except RunError as error:
        exit_on_user_error(error)
    print("ended", flush=True)


def judged(question: str) -> str:
    r"""The reply to a question of a grader: 1.0 or 0.0, or right or wrong.

    >>> judged("Question | Ground truth | Prediction | Correctness\nWhere? | a cave | in A Cave | ")
    '1.0'
    """
    if (name := CLASS.search(question)) and (answer := ANSWER.search(question)):
        return "right" if name[1].lower() in answer[1].lower() else "wrong"
    cells = [cell.strip() for cell in question.rstrip().splitlines()[-1].split(" | ")]
    truth, answer_text = (cells[1], cells[2]) if len(cells) > 2 else ("", "")
    return "1.0" if truth and truth.lower() in answer_text.lower() else "0.0"


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
