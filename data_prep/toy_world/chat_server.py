"""A stand-in for a model behind an API: a chat API on this machine that answers by rule, without looking at images.

    python -m data_prep.toy_world.chat_server --port 8017        in another terminal
    export OPENAI_BASE_URL=http://127.0.0.1:8017/v1
    python -m data_prep.caption --config configs/captions/demo.yaml

From the paper's prompt for a caption it takes the class name and puts it into a sentence. Prompts of ImageWikiQA's
construction (Figures 8 and 9) it answers from the facts of the demo world (`data_prep.toy_world.expert`). It shows that
a chain of commands works; its answers say nothing about a model. With `--fail-every N` each N-th request fails in the
next of these ways: status 429 with Retry-After, status 500, a connection that is cut, a reply that is no JSON, one
without a choice, a text that the content filter withholds, one cut off at the limit of tokens, a refusal, an empty
text, a caption of another class.
"""

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Sequence

from configs.command_line import at_least, command_parser, exit_on_user_error
from configs.errors import RunError
from data_prep.toy_world.chat_api import (
    BAD_REQUEST,
    Reply,
    Request,
    completion,
    json_reply,
    refusal,
    serving,
    wait_for_end,
)
from data_prep.toy_world.expert import expert_answer

NAMED = re.compile(r"label of the image, which is (.+?)\.(?: Answer|$)", re.DOTALL)
CAPTION = "this is a {}."  # the form that the demo's language model knows; training a projector teaches no other
FAULTS = (
    "429", "500", "cut connection", "no JSON", "no choice", "content filter", "length", "refusal", "empty",
    "another class",
)  # fmt: skip


class ChatServer:
    """Answers requests; counts them by what they were answered with (`answered`)."""

    def __init__(self, fail_every: int = 0):
        """Without `fail_every` nothing fails."""
        self.fail_every = fail_every
        self.answered: Counter[str] = Counter()
        self.questions: Counter[str] = Counter()  # by a hash of the messages: how often each was asked
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Reply:
        """The reply to a request. Raises as `Request.text` for one that is no chat."""
        text = request.text
        seen = hashlib.sha256(json.dumps(request.messages).encode()).hexdigest()
        with self._lock:
            number = self.answered.total() + 1
            fails = self.fail_every and number % self.fail_every == 0
            kind = FAULTS[number // self.fail_every % len(FAULTS)] if fails else "caption"
            self.answered[kind] += 1
            self.questions[seen] += 1
        found = NAMED.search(text)
        known = expert_answer(text) if found is None else CAPTION.format(found[1])
        if known is None:
            message = "the prompt names no label of an image, and is none about a class of the demo world"
            return refusal(BAD_REQUEST, message)
        return _reply(kind, known)


def _reply(kind: str, caption: str) -> Reply:
    status, headers, body = refusal(429, "slow down", code="rate_limit_exceeded")
    special: dict[str, Reply] = {
        "429": (status, headers | {"Retry-After": "0.01"}, body),
        "500": refusal(500, "overloaded"),
        "cut connection": (200, {"Content-Length": "500"}, b'{"choices": ['),
        "no JSON": (200, {}, b"<html>Bad gateway</html>"),
        "no choice": json_reply(200, {"choices": []}),
        "content filter": completion("", "content_filter"),
        "length": completion(caption[: len(caption) // 2], "length"),
        "refusal": completion("I'm sorry, but I can't help with that."),
        "empty": completion(""),
        "another class": completion("A photo of something else."),
    }
    return special.get(kind) or completion(caption)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM, then print the counts."""
    parser = command_parser(__doc__)
    parser.add_argument("--port", type=at_least(0), default=8017, help="port on 127.0.0.1 (default 8017; 0: any)")
    parser.add_argument(
        "--fail-every", type=at_least(0), default=0, metavar="N", help="fail each N-th request (default: none)"
    )
    arguments = parser.parse_args(argv)
    server = ChatServer(arguments.fail_every)
    try:
        with serving(server.answer, arguments.port) as address:
            print(f"export OPENAI_BASE_URL={address}", flush=True)
            wait_for_end()
    except RunError as error:
        exit_on_user_error(error)
    print(", ".join(f"{count:,} x {kind}" for kind, count in server.answered.items()) or "no requests")


if __name__ == "__main__":
    main()
