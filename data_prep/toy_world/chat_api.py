"""The server of a chat API on this machine, for programs that stand in for a model: requests, replies, until Ctrl-C.

    with serving(lambda request: completion("a cat")) as address: ...

It speaks the OpenAI wire format. What answers a request is a function; one that cannot be read gets status 400.
"""

import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any

from configs.errors import RunError

HOST = "127.0.0.1"
BAD_REQUEST = 400
MOST_PORTS = 65_535
Reply = tuple[int, dict[str, str], bytes]
"""Status, headers and body; a body that is shorter than its header says cuts the connection."""


@dataclass(frozen=True, slots=True)
class Request:
    """A POST request: its path, headers and body."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of the chat. Raises `ValueError`, `KeyError` or `TypeError` for another body."""
        found: list[dict[str, Any]] = json.loads(self.body)["messages"]
        return found

    @property
    def text(self) -> str:
        """The words of the last message, without its images. Raises as `messages`, or `IndexError`."""
        content = self.messages[-1]["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        return " ".join(part["text"] for part in parts if part["type"] == "text")


def completion(text: str, finish: str = "stop") -> Reply:
    """An answer of the model."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 300, "completion_tokens": len(text.split())}
    return json_reply(200, {"object": "chat.completion", "choices": [choice], "usage": usage})


def refusal(status: int, message: str, **fields: str) -> Reply:
    """An error in OpenAI's form."""
    return json_reply(status, {"error": {"message": message, **fields}})


def json_reply(status: int, values: Mapping[str, Any]) -> Reply:
    """A reply with these values as its body."""
    return status, {}, json.dumps(values).encode()


@contextmanager
def serving(answer: Callable[[Request], Reply], port: int = 0) -> Iterator[str]:
    """The address of the running server; port 0 is any free one. Raises `RunError` if the port cannot be used."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            try:
                status, headers, data = answer(Request(self.path, dict(self.headers.items()), body))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                status, headers, data = refusal(BAD_REQUEST, f"no chat request: {error}")
            try:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                pass  # the client has given up

        def log_message(self, *_: Any) -> None:
            """Nothing: who asks shows the progress."""

    if port > MOST_PORTS:
        raise RunError(f"port {port} cannot be used (the largest is {MOST_PORTS:,}); choose another one with --port")
    try:
        listener = ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise RunError(f"port {port} cannot be used ({error.strerror}); choose another one with --port") from error
    threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://{HOST}:{listener.server_port}/v1"
    finally:
        listener.shutdown()
        listener.server_close()


def wait_for_end() -> None:
    """Return when Ctrl-C or SIGTERM ends the program."""
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is Python's
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    ended.wait()
