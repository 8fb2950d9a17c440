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
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any

from configs.command_line import at_least, command_parser, exit_on_user_error
from configs.errors import RunError
from data_prep.toy_world.expert import expert_answer

NAMED = re.compile(r"label of the image, which is (.+?)\.(?: Answer|$)", re.DOTALL)
CAPTION = "this is a {}."  # the form that the demo's language model knows; training a projector teaches no other
BAD_REQUEST = 400
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

    def answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of the reply; a body that is shorter than its header says cuts the connection."""
        text, seen = _question(body)
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
            return BAD_REQUEST, {}, _json({"error": {"message": message}})
        return _reply(kind, known)


def _question(body: bytes) -> tuple[str, str]:
    """(text, hash of the messages) of a request."""
    messages = json.loads(body)["messages"]
    content = messages[-1]["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    text = " ".join(part["text"] for part in parts if part["type"] == "text")
    return text, hashlib.sha256(json.dumps(messages).encode()).hexdigest()


def _reply(kind: str, caption: str) -> tuple[int, dict[str, str], bytes]:
    special: dict[str, tuple[int, dict[str, str], bytes]] = {
        "429": (
            429,
            {"Retry-After": "0.01"},
            _json({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}),
        ),
        "500": (500, {}, _json({"error": {"message": "overloaded"}})),
        "cut connection": (200, {"Content-Length": "500"}, b'{"choices": ['),
        "no JSON": (200, {}, b"<html>Bad gateway</html>"),
        "no choice": (200, {}, _json({"choices": []})),
        "content filter": _completion("", "content_filter"),
        "length": _completion(caption[: len(caption) // 2], "length"),
        "refusal": _completion("I'm sorry, but I can't help with that.", "stop"),
        "empty": _completion("", "stop"),
        "another class": _completion("A photo of something else.", "stop"),
    }
    return special.get(kind) or _completion(caption, "stop")


def _completion(text: str, finish: str) -> tuple[int, dict[str, str], bytes]:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 300, "completion_tokens": len(text.split())}
    return 200, {}, _json({"object": "chat.completion", "choices": [choice], "usage": usage})


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode()


@contextmanager
def serving(server: ChatServer, port: int = 0) -> Iterator[str]:
    """The address of the running server; port 0 is any free one. Raises `RunError` if the port is in use."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, headers, data = server.answer(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                pass  # the client has given up

        def log_message(self, *_: Any) -> None:
            """Nothing: the requests are counted."""

    try:
        listener = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise RunError(f"port {port} cannot be used ({error.strerror}); choose another one with --port") from error
    threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}/v1"
    finally:
        listener.shutdown()
        listener.server_close()


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM, then print the counts."""
    parser = command_parser(__doc__)
    parser.add_argument("--port", type=at_least(0), default=8017, help="port on 127.0.0.1 (default 8017; 0: any)")
    parser.add_argument("--fail-every", type=at_least(0), default=0, metavar="N", help="fail each N-th request")
    arguments = parser.parse_args(argv)
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is Python's
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    server = ChatServer(arguments.fail_every)
    try:
        with serving(server, arguments.port) as address:
            print(f"export OPENAI_BASE_URL={address}", flush=True)
            ended.wait()
    except RunError as error:
        exit_on_user_error(error)
    print(", ".join(f"{count:,} x {kind}" for kind, count in server.answered.items()) or "no requests")


if __name__ == "__main__":
    main()
