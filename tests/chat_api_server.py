"""A chat API on this machine, in a thread: answers as it is told, and remembers what it was asked."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from data_prep.toy_world import chat_api
from data_prep.toy_world.chat_api import Reply


def completion(text: object = "a cat", **choice: Any) -> Reply:
    """A whole answer."""
    values = {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop", **choice}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3},
    }
    return 200, {}, json.dumps(values).encode()


def failure(status: int, message: str = "not now", code: str | None = None, **headers: str) -> Reply:
    """An error in OpenAI's form; a header's underscores become hyphens."""
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, body


class Server:
    """`replies` are given in turn, the last for ever; a function is called with the request's JSON."""

    def __init__(self, *replies: Reply | Callable[[dict], Reply]):
        self.replies, self.requests, self.headers = list(replies), [], []
        self.lock, self.released = threading.Lock(), threading.Event()
        self.url = ""

    def reply(self, request: dict, headers: dict[str, str]) -> Reply:
        with self.lock:
            self.requests.append(request)
            self.headers.append(headers)
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return reply(request) if callable(reply) else reply

    def hang(self, request: dict) -> Reply:
        """Answers when the test is over."""
        self.released.wait()
        return completion()

    def texts(self) -> list[str]:
        """The words of every question, in the order they came."""
        found = []
        for request in self.requests:
            content = request["messages"][-1]["content"]
            found.append(content if isinstance(content, str) else content[0]["text"])
        return found

    def images(self) -> list[str]:
        return [r["messages"][-1]["content"][1]["image_url"]["url"] for r in self.requests]


@contextmanager
def serving(*replies: Reply | Callable[[dict], Reply]) -> Iterator[Server]:
    """A running server; a reply named `"hang"` never comes."""
    server = Server(*replies)
    server.replies = [server.hang if reply == "hang" else reply for reply in server.replies]

    def answer(request: chat_api.Request) -> Reply:
        return server.reply(json.loads(request.body) | {"path": request.path}, dict(request.headers))

    with chat_api.serving(answer) as server.url:
        try:
            yield server
        finally:
            server.released.set()
