"""Calls of a chat API in the OpenAI wire format: one question, one answer, however often the network fails in between.

    export OPENAI_BASE_URL=https://host/v1 OPENAI_API_KEY=…
    python -m eval.run --config FILE.yaml --set model=api:NAME --set limit=100

Address and key are read from the environment alone. The key goes into one header of a request to that very address
(redirects are refused) and nowhere else: not into files, messages or errors.

Tried again, with growing pauses or after the server's Retry-After: no connection, no answer in time, an answer that
cannot be read, 408, 409, 425, 429 and 5xx. Every thread waits while the server asks for it. What no other attempt can
mend ends the evaluation (401, 402, 404, no quota left) or fails this question alone (400, 403, 413, 422, ...).
"""

import email.utils
import http.client
import json
import os
import random
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import IO, Any
from urllib.parse import urlsplit

from configs.errors import ConfigError, RunError
from configs.evaluation import ApiConfig
from eval.models.api_replies import (
    AGAIN,
    FATAL,
    SHOWN,
    QuestionError,
    TryAgain,
    completion_of,
    error_words,
    setting_to_change,
)

LONGEST_BACKOFF = 60.0  # seconds
LONGEST_WAIT = 600.0  # seconds that a server may ask for; then the user is told to come back
MOST_BYTES = 4 * 2**20  # of an answer
NAME = re.compile(r"[A-Z_][A-Z0-9_]*")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """A redirect would carry the key to another address."""


@dataclass(frozen=True)
class Endpoint:
    """URL and key of the API, from the environment. `key` is never in a repr."""

    url: str
    key: str | None = field(repr=False)

    @property
    def host(self) -> str:
        """Host and port: the part of the URL that may be printed."""
        return urlsplit(self.url).netloc

    @classmethod
    def of(cls, config: ApiConfig, environment: Mapping[str, str] = os.environ) -> "Endpoint":
        """Read the two variables. Raises `ConfigError` that names the variable, and never quotes its value."""
        for name in (config.url_env, config.key_env):
            if not NAME.fullmatch(name):
                raise ConfigError(
                    "api.url_env and api.key_env are names of environment variables, in capitals; put the address and "
                    "the key into the environment, never into a configuration"
                )
        address = environment.get(config.url_env, "").strip().rstrip("/")
        try:
            parts = urlsplit(address)
            whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or True)
        except ValueError:
            whole = False
        if not whole or "@" in parts.netloc or parts.query:
            raise ConfigError(
                f"the environment variable {config.url_env} holds no address that can be called; set it to one like "
                "https://host/v1, without user, password or query"
            )
        key = environment.get(config.key_env, "").strip()
        if not re.fullmatch(r"[!-~]*", key):
            raise ConfigError(f"the key in {config.key_env} has characters that no header can hold; set it anew")
        return cls(f"{address}/chat/completions", key or None)


class ApiClient:
    """Asks questions; may be used by several threads."""

    def __init__(self, config: ApiConfig, endpoint: Endpoint):
        """Nothing is sent yet."""
        self.config, self.endpoint = config, endpoint
        self.stopped = threading.Event()
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._lock = threading.Lock()
        self._not_before = 0.0  # on time.monotonic's clock: the server asked all of us to wait

    def ask(self, body: bytes) -> dict[str, Any]:
        """The answer to a request's JSON, as the server's JSON with at least one choice.

        Raises `QuestionError` if there is none for this question, `RunError` if there is none for any.
        """
        for attempt in range(1, self.config.attempts + 1):
            self._wait(self._not_before - time.monotonic())
            try:
                return self._attempt(body)
            except TryAgain as error:
                reason = str(error)
                if attempt == self.config.attempts:
                    break
                self._pause(attempt, error.after)
        raise QuestionError(f"no answer after {self.config.attempts} attempts: {reason}")

    def _pause(self, attempt: int, after: float | None) -> None:
        """Before another attempt; what the server asks for holds for every thread."""
        if after:  # 0 says nothing
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + after)
            return
        longest = min(LONGEST_BACKOFF, self.config.backoff * 2 ** (attempt - 1))
        self._wait(longest * random.uniform(0.5, 1.0))  # threads that failed together do not come back together

    def _wait(self, seconds: float) -> None:
        if self.stopped.wait(max(0.0, seconds)):
            raise QuestionError("the evaluation is stopping")

    def _attempt(self, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        request = urllib.request.Request(self.endpoint.url, data=body, headers=headers, method="POST")
        if self.endpoint.key is not None:
            request.add_unredirected_header("Authorization", f"Bearer {self.endpoint.key}")
        deadline = time.monotonic() + self.config.timeout
        try:
            with self._opener.open(request, timeout=self.config.timeout) as answer:
                text = _read(answer, deadline)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from None
        except (OSError, http.client.HTTPException) as error:  # no connection, none in time, or cut off
            raise TryAgain(self._without_key(f"{type(error).__name__}: {error}")) from None
        return self._parsed(text)

    def _parsed(self, text: bytes) -> dict[str, Any]:
        """The completion; a failure that the reply names is raised as `_refusal` raises that of a status."""
        try:
            return completion_of(text)
        except TryAgain as error:
            raise TryAgain(self._without_key(str(error)), error.after) from None
        except QuestionError as error:
            raise QuestionError(self._without_key(str(error))) from None
        except RunError as error:
            raise self._end(self._without_key(str(error))) from None

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        """What to do about a status that is not 200."""
        try:
            body = error.read(MOST_BYTES).decode(errors="replace")
        except (OSError, http.client.HTTPException):
            body = ""
        told = f"status {error.code}: {self._without_key(_message(body))}"
        if 300 <= error.code < 400:
            return RunError(f"{self.endpoint.host} sends calls elsewhere (status {error.code}); set the final address")
        if error.code in FATAL or "insufficient_quota" in body:
            return self._end(told)
        if error.code in (400, 422) and (change := setting_to_change(body)):
            return RunError(f"{self.endpoint.host} does not take the request as it is ({told}); add {change}")
        if error.code not in AGAIN:
            return QuestionError(told)
        after = retry_after(error.headers.get("Retry-After"))
        if after is not None and after > LONGEST_WAIT:
            return RunError(f"{self.endpoint.host} asks to wait {after:,.0f} s ({told}); the same command goes on then")
        return TryAgain(told, after)

    def _end(self, told: str) -> RunError:
        where = f"{self.config.url_env} and {self.config.key_env}"
        return RunError(
            f"{self.endpoint.host} refuses every question ({told}); check {where}, the model's name and the account. "
            "The same command continues where this one stopped"
        )

    def _without_key(self, text: str) -> str:
        """A server's words, cut, and without the key should they repeat it."""
        if self.endpoint.key:
            text = text.replace(self.endpoint.key, "***")
        return " ".join(text.split())[:SHOWN]


def _read(answer: IO[bytes], deadline: float) -> bytes:
    """The body, before the deadline: a socket's time-out begins anew with every byte."""
    parts, total = [], 0
    while part := answer.read1(65536):  # type: ignore[attr-defined]
        parts.append(part)
        total += len(part)
        if total > MOST_BYTES:
            raise TryAgain(f"the answer is longer than {MOST_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError("the answer did not end in time")
    return b"".join(parts)


def _message(body: str) -> str:
    """The words of an error's JSON, or the body itself."""
    try:
        return error_words(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body


def retry_after(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header: a number, or a date; None for anything else.

    >>> retry_after("2")
    2.0
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(header)
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time()  # RFC 9110: in GMT
        except ValueError:
            return None
    return max(0.0, seconds) if seconds < float("inf") else None
