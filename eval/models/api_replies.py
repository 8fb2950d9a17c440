"""Classifies a server's reply: an answer, a reason to retry, or an error that ends this question or the evaluation.

Servers with the OpenAI wire format report failures in many forms, also with HTTP status 200: an error object next to
or instead of the choices, `finish_reason: "error"`, an empty text after a network error. An error code inside the reply
is handled like the HTTP status of the same number. Pure functions of the reply's bytes.
"""

import json
import re
from typing import Any

from configs.errors import RunError

AGAIN = frozenset({408, 409, 425, 429, *range(500, 600)})
FATAL = frozenset({401, 402, 404})
SHOWN = 200  # characters of a server's message that are printed
THOUGHTS = frozenset({"thinking", "reasoning", "redacted_thinking", "reasoning_content", "thought"})
NETWORK = frozenset({"error", "network_error", "malformed_function_call", "unexpected_eof", "other_error"})
NAMED_CODES = {
    "insufficient_quota": 402, "invalid_api_key": 401, "rate_limit_exceeded": 429, "model_not_found": 404,
    "server_error": 500, "overloaded_error": 503, "timeout": 408, "content_filter": 400,
}  # fmt: skip


_LENGTH_FIELDS = re.compile(r"\bmax_tokens\b|\bmax_completion_tokens\b")
_ADVISED = re.compile(r"(?:\buse|\btry|did you mean|instead of \W*\w+\W* use|replaced (?:by|with))\W+(?:the \W*)?"
                      r"(max_tokens|max_completion_tokens)\b")  # fmt: skip
_TOO_MUCH = re.compile(
    r"too (?:large|high|big|long|many|small|low)|context (?:length|window|size)|at (?:most|least)|exceed|"
    r"less than|greater than|larger than|more than|must be (?:positive|between)|maximum (?:value|number)|"
    r"model length|\brange\b"
)
_REFUSED = re.compile(
    r"support|unknown|unrecogni|unexpected|extra|not (?:allowed|permitted|accept)|invalid|refus|remove"
)


class QuestionError(Exception):
    """This question cannot be answered and a retry would not help; the text says why."""


class RefusedField(Exception):
    """The server refuses a field of every request; the text names the setting that changes it."""


class TryAgain(Exception):
    """An attempt failed and should be retried, after `after` seconds if the server sent a Retry-After."""

    def __init__(self, reason: str, after: float | None = None):
        super().__init__(reason)
        self.after = after


def completion_of(body: bytes) -> dict[str, Any]:
    """The reply as a chat completion with a usable first choice.

    Completions in the older form (`text` instead of `message`) and streamed chunks, which some servers send unasked,
    are converted. Raises `TryAgain`, `QuestionError` or `RunError`, with at most `SHOWN` characters of the reply.
    """
    text = body.decode(errors="replace")
    values = _streamed(text) if text.lstrip().startswith(("data:", "event:", ":")) else _json(text)
    choices = values.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    for holder in (values, choice if isinstance(choice, dict) else {}):
        if holder.get("error"):
            raise failure_of(error_code(holder["error"]), f"status 200 with an error: {error_words(holder['error'])}")
    if isinstance(choice, dict) and "message" not in choice and isinstance(choice.get("text"), str):
        choice = {**choice, "message": {"role": "assistant", "content": choice["text"]}}
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        raise TryAgain(f"the reply is not a chat completion: {text[:SHOWN]!r}")
    _check_end(choice)
    return {**values, "choices": [choice]}


def _check_end(choice: dict[str, Any]) -> None:
    """Raise if the finish reason says that the text is not the model's answer."""
    reasons = [str(choice.get(key) or "").lower() for key in ("finish_reason", "native_finish_reason")]
    text = text_of(choice)
    if "error" in reasons or (not text and NETWORK.intersection(reasons)):
        raise TryAgain(f"the answer was cut off: finish_reason {next(r for r in reasons if r in NETWORK)}")
    if "content_filter" in reasons:
        raise QuestionError("the server's content filter withheld the answer (finish_reason content_filter)")
    if not text and choice["message"].get("tool_calls"):
        raise QuestionError("the model called a tool instead of answering with text")


def text_of(choice: dict[str, Any]) -> str:
    """The text of a choice without reasoning parts; a refusal counts as the model's answer."""
    message = choice["message"]
    content = message.get("content") or message.get("refusal") or ""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") not in THOUGHTS]
        content = "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    return str(content).strip()


def failure_of(code: int | None, reason: str) -> Exception:
    """The exception for a status or a code inside a reply: retry, fail this question, or stop."""
    if code in (400, 422) and (change := setting_to_change(reason)):
        return RefusedField(f"{reason}; add {change}")
    if code in FATAL:
        return RunError(reason)
    if code is None or code in AGAIN:
        return TryAgain(reason)
    return QuestionError(reason)


def error_code(error: Any) -> int | None:
    """The HTTP status of an error object; None if it has none."""
    if not isinstance(error, dict):
        return None
    for key in ("code", "status", "type"):
        value = error.get(key)
        if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
            return int(value)
        if isinstance(value, str) and value in NAMED_CODES:
            return NAMED_CODES[value]
    return None


def error_words(error: Any) -> str:
    """The message of an error object, or the error itself as text."""
    return str(error.get("message") or error) if isinstance(error, dict) else str(error)


def setting_to_change(body: str) -> str | None:
    """The setting that leaves out or renames the request field that a server refuses; None if it refuses no field.

    `body` is that of an error that a retry does not fix. A limit that is too large for the model is no refused field.

    >>> setting_to_change('{"error": {"message": "Unsupported parameter: max_tokens", "param": "max_tokens"}}')
    '--set api.length_field=max_completion_tokens'
    """
    words = body.lower()
    fields = _LENGTH_FIELDS.findall(words)
    if fields and not _TOO_MUCH.search(words):
        advised = _ADVISED.search(words)
        others = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
        return f"--set api.length_field={advised[1] if advised else others[fields[0]]}"
    if "temperature" in words:
        return "--set api.temperature=null"
    if re.search(r"\bdetail\b", words) and "image" in words and _REFUSED.search(words):
        return "--set api.image_detail=null"
    return None


def _json(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError:
        page = text.lstrip()[:1] == "<"
        hint = "a web page, not JSON (is the address right?)" if page else "not JSON"
        raise TryAgain(f"the reply is {hint}: {text[:SHOWN]!r}") from None
    if not isinstance(values, dict):
        raise TryAgain(f"the reply is not a chat completion: {text[:SHOWN]!r}")
    return values


def _streamed(text: str) -> dict[str, Any]:
    """Joins server-sent events into one completion."""
    content, finish, error = "", None, None
    for line in text.splitlines():
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        chunk = _json(data)
        error = chunk.get("error") or error
        for choice in (chunk.get("choices") or [])[:1]:
            content += str((choice.get("delta") or {}).get("content") or "")
            finish = choice.get("finish_reason") or finish
    message = {"role": "assistant", "content": content}
    whole: dict[str, Any] = {"choices": [{"message": message, "finish_reason": finish}]}
    return whole | ({"error": error} if error else {})
