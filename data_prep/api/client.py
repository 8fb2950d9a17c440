"""Client of a chat API in the OpenAI wire format: sends one question and retries until it is answered or refused.

    client = ApiClient(config.api, Endpoint.of(config.api))
    reply = reply_of(client.ask(request_body(name, messages, config.api, limit)), seconds)

The address and the key are read from the environment only. The key is sent in one header, to that address only
(redirects are refused); it is never written to files, messages or errors.

Retried, with exponential backoff or after the server's Retry-After: no connection, a time-out, a reply that cannot be
parsed, status 408, 409, 425, 429 and 5xx. A Retry-After holds for all threads. Errors that a retry cannot fix end the
program (401, 402, 404, no quota left) or fail this question only (400, 403, 413, 422, ...).
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

from configs.api import ApiConfig
from configs.api_providers import PROVIDERS
from configs.errors import ConfigError, RunError
from data_prep.api.replies import (
    FATAL,
    MAX_CHARACTERS,
    RETRY_STATUSES,
    QuestionError,
    RefusedField,
    TryAgain,
    completion_of,
    error_words,
    setting_to_change,
)

LONGEST_BACKOFF = 60.0  # seconds
LONGEST_WAIT = 600.0  # seconds; a longer Retry-After ends the program
MOST_BYTES = 4 * 2**20  # of a reply
NO_ACCOUNT = ("insufficient_quota", "API_KEY_INVALID", "API key not valid", "credit balance is too low")
"""In errors of OpenAI (status 429), Gemini (400) and Claude (400) that hold for every question."""
NAME = re.compile(r"[A-Z_][A-Z0-9_]*")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: a redirect would send the key to another address."""


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
        """Read the two variables. Raises `ConfigError` that names the variable but never its value."""
        for name in (config.url_env, config.key_env):
            if not NAME.fullmatch(name):
                raise ConfigError(
                    "api.url_env and api.key_env are names of environment variables, in capitals; put the address and "
                    "the key into the environment, never into a configuration"
                )
        default = PROVIDERS[config.provider].url
        address = (environment.get(config.url_env, "").strip() or default or "").rstrip("/")
        try:
            parts = urlsplit(address)
            whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or True)
        except ValueError:
            whole = False
        if not whole or "@" in parts.netloc or parts.query:
            wrong = "is not a usable address" if address else "is not set"
            raise ConfigError(
                f"the environment variable {config.url_env} {wrong}; set it to one like "
                "https://host/v1, without user, password or query, or choose an api.provider"
            )
        key = environment.get(config.key_env, "").strip()
        if not re.fullmatch(r"[!-~]*", key):
            raise ConfigError(
                f"the key in {config.key_env} has characters that are not allowed in a header; set it again"
            )
        if not key and address == default:
            raise ConfigError(
                f"the environment variable {config.key_env} is not set; set it to your key of {config.provider}"
            )
        return cls(f"{address}/chat/completions", key or None)


class ApiClient:
    """Sends questions; safe to use from several threads."""

    def __init__(self, config: ApiConfig, endpoint: Endpoint):
        """Nothing is sent yet."""
        self.config, self.endpoint = config, endpoint
        self.stopped = threading.Event()
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._lock = threading.Lock()
        self._not_before = 0.0  # on time.monotonic's clock: from the server's Retry-After, for all threads

    def ask(self, body: bytes) -> dict[str, Any]:
        """Send a request's JSON and return the server's JSON, which has at least one choice.

        Raises `QuestionError` if this question cannot be answered, `RunError` if no question can be.
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
        """Wait before the next attempt; a Retry-After holds for every thread."""
        if after:  # a Retry-After of 0 means the usual backoff
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + after)
            return
        longest = min(LONGEST_BACKOFF, self.config.backoff * 2 ** (attempt - 1))
        self._wait(longest * random.uniform(0.5, 1.0))  # random, so that threads do not retry all together

    def _wait(self, seconds: float) -> None:
        if self.stopped.wait(max(0.0, seconds)):
            raise QuestionError("the program is stopping")

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
        except (OSError, http.client.HTTPException) as error:  # no connection, a time-out, or cut off
            raise TryAgain(self._without_key(f"{type(error).__name__}: {error}")) from None
        return self._parsed(text)

    def _parsed(self, text: bytes) -> dict[str, Any]:
        """The completion; an error inside the reply is raised like the HTTP status of the same code."""
        try:
            return completion_of(text)
        except TryAgain as error:
            raise TryAgain(self._without_key(str(error)), error.after) from None
        except QuestionError as error:
            raise QuestionError(self._without_key(str(error))) from None
        except RefusedField as error:
            raise RunError(f"{self.endpoint.host} refuses the request ({self._without_key(str(error))})") from None
        except RunError as error:
            raise self._end(self._without_key(str(error))) from None

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        """The exception for a status other than 200."""
        try:
            body = error.read(MOST_BYTES).decode(errors="replace")
        except (OSError, http.client.HTTPException):
            body = ""
        reason = f"status {error.code}: {self._without_key(_message(body))}"
        if 300 <= error.code < 400:
            return RunError(f"{self.endpoint.host} redirects (status {error.code}); set the address it redirects to")
        if error.code in FATAL or any(text in body for text in NO_ACCOUNT):
            return self._end(reason)
        if error.code in (400, 422) and (change := setting_to_change(body)):
            return RunError(f"{self.endpoint.host} refuses the request ({reason}); add {change}")
        if error.code not in RETRY_STATUSES:
            return QuestionError(reason)
        after = retry_after(error.headers.get("Retry-After") or retry_delay(body))
        if after is not None and after > LONGEST_WAIT:
            return RunError(
                f"{self.endpoint.host} asks to wait {after:,.0f} s ({reason}); run the same command again then"
            )
        return TryAgain(reason, after)

    def _end(self, reason: str) -> RunError:
        where = f"{self.config.url_env} and {self.config.key_env}"
        return RunError(
            f"{self.endpoint.host} refuses every question ({reason}); check {where}, the model's name and the account. "
            "The same command continues where this one stopped"
        )

    def _without_key(self, text: str) -> str:
        """A server's message, cut to `MAX_CHARACTERS` characters, with the key replaced by `***`."""
        if self.endpoint.key:
            text = text.replace(self.endpoint.key, "***")
        return " ".join(text.split())[:MAX_CHARACTERS]


def _read(answer: IO[bytes], deadline: float) -> bytes:
    """The body. Checks the deadline itself, because a socket's time-out starts again with every byte received."""
    parts, total = [], 0
    while part := answer.read1(65536):  # type: ignore[attr-defined]
        parts.append(part)
        total += len(part)
        if total > MOST_BYTES:
            raise TryAgain(f"the reply is longer than {MOST_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError("the reply did not end in time")
    return b"".join(parts)


def _message(body: str) -> str:
    """The message in an error's JSON, or the body itself; Gemini's errors are a list of one."""
    try:
        values = json.loads(body)
        return error_words((values[0] if isinstance(values, list) else values)["error"])
    except (ValueError, KeyError, TypeError, IndexError):
        return body


def retry_after(header: str | None) -> float | None:
    """Seconds to wait according to a Retry-After header (a number or a date); None if it cannot be parsed.

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


def retry_delay(body: str) -> str | None:
    """The seconds to wait in the body of Google's errors, which come without a Retry-After; None if there are none.

    >>> retry_delay('{"error": {"details": [{"retryDelay": "28s"}]}}')
    '28'
    """
    found = re.search(r'"retryDelay"\s*:\s*"(\d+(?:\.\d+)?)s"', body)
    return found[1] if found else None
