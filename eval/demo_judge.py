"""A judge without an API: serves the graders mm_vet and llm_judge on this machine, by looking for the right answer.

    python -m eval.demo_judge --port 8899
    OPENAI_BASE_URL=http://127.0.0.1:8899/v1 python -m eval.grade --config configs/eval/demo_open_answers.yaml

It speaks the OpenAI wire format. An answer is right (1.0) if it contains the ground truth, case ignored; else wrong
(0.0). It shows that a grading runs; no language model judges. Ctrl-C ends it.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from configs.command_line import at_least, command_parser, exit_on_user_error
from configs.errors import ConfigError

HOST = "127.0.0.1"
CLASS, ANSWER = re.compile(r"^Right class: (.*)$", re.MULTILINE), re.compile(r"^Answer: (.*)$", re.MULTILINE)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until it is stopped. Exits with code 2 if the port is taken."""
    parser = command_parser(__doc__)
    parser.add_argument("--port", type=at_least(1), default=8899, metavar="N", help="port (default 8899)")
    arguments = parser.parse_args(argv)
    serve(arguments)


def serve(arguments: argparse.Namespace) -> None:
    """Answer requests until Ctrl-C."""
    try:
        server = ThreadingHTTPServer((HOST, arguments.port), Handler)
    except (OSError, OverflowError) as error:
        exit_on_user_error(ConfigError(f"port {arguments.port} cannot be used ({error}); give another with --port"))
    print(f"judge at http://{HOST}:{arguments.port}/v1; Ctrl-C ends it", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("ended", flush=True)
    finally:
        server.server_close()


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


class Handler(BaseHTTPRequestHandler):
    """Replies to POST /v1/chat/completions."""

    def do_POST(self) -> None:
        """One completion; 400 for a request in another form."""
        try:
            values = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            text = judged(str(values["messages"][-1]["content"]))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            self._send(400, {"error": {"message": f"no chat request: {error}"}})
            return
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        self._send(200, {"choices": [choice], "usage": {"prompt_tokens": 0, "completion_tokens": 0}})

    def _send(self, status: int, values: dict[str, Any]) -> None:
        data = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: the grading shows its progress."""


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
