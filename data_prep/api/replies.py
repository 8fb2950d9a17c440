"""Classifies a server's reply: an answer, a reason to retry, or an error that ends this question or the program.

Servers with the OpenAI wire format report failures in many forms, also with HTTP status 200: an error object next to
or instead of the choices, `finish_reason: "error"`, an empty text after a network error. An error code inside the reply
is handled like the HTTP status of the same number. Pure functions of the reply's bytes.
"""

import json
import re
from typing import Any

from configs.errors import RunError
from data_prep.drops import printable

RETRY_STATUSES = frozenset({408, 409, 425, 429, *range(500, 600)})
FATAL = frozenset({401, 402, 404})
MAX_CHARACTERS = 200  # characters of a server's message that are printed
THOUGHTS = frozenset({"thinking", "reasoning", "redacted_thinking", "reasoning_content", "thought"})
INTERRUPTED = frozenset({
    "error", "abort", "aborted", "cancelled", "canceled", "timeout", "failed", "interrupted", "overloaded",
    "engine_overloaded", "insufficient_system_resource",
})  # fmt: skip
"""Finish reasons of a text that is not whole."""
NETWORK = frozenset({"network_error", "malformed_function_call", "unexpected_eof", "other_error"})
"""Finish reasons of a failure where there is no text; some servers name them next to a finish reason `stop`."""
WITHHELD = frozenset({"content_filter", "safety", "recitation", "blocked", "blocklist", "prohibited_content", "spii"})
ENDED = frozenset({
    "stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_token", "complete", "completed", "done", "finished",
    "length", "max_tokens", "max_output_tokens", "model_length", "tool_calls", "function_call", "refusal",
})  # fmt: skip
"""Finish reasons after which an empty text is the model's answer; after others, and without one, it is a failure."""
NAMED_CODES = {
    "insufficient_quota": 402, "invalid_api_key": 401, "rate_limit_exceeded": 429, "model_not_found": 404,
    "server_error": 500, "overloaded_error": 503, "timeout": 408, "content_filter": 400,
    "authentication_error": 401, "unauthenticated": 401, "permission_error": 403, "permission_denied": 403,
    "rate_limit_error": 429, "resource_exhausted": 429, "api_error": 500, "unavailable": 503, "internal": 500,
    "not_found_error": 404, "not_found": 404, "deadline_exceeded": 408, "billing_hard_limit_reached": 402,
    "billing_not_active": 402, "billing_error": 402, "invalid_argument": 400,
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


BARE = ("message", "detail", "errors", "msg")  # fields of an error that is the whole reply


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
    are converted. Raises `TryAgain`, `QuestionError` or `RunError`, with up to `MAX_CHARACTERS` of the reply.
    """
    text = body.decode("utf-8-sig", errors="replace")
    values = _streamed(text) if text.lstrip().startswith(("data:", "event:", ":")) else _json(text)
    choices = values.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if choice is None and (
        values.get("object") == "error" or any(isinstance(values.get(key), str | list) for key in BARE)
    ):
        raise failure_of(error_code(values), f"status 200 with an error: {error_words(values)}")
    for holder in (values, choice if isinstance(choice, dict) else {}):
        if holder.get("error"):
            raise failure_of(error_code(holder["error"]), f"status 200 with an error: {error_words(holder['error'])}")
    if isinstance(choice, dict) and "message" not in choice and isinstance(choice.get("text"), str):
        choice = {**choice, "message": {"role": "assistant", "content": choice["text"]}}
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        raise TryAgain(f"the reply is not a chat completion: {text[:MAX_CHARACTERS]!r}")
    _check_end(choice)
    return {**values, "choices": [choice]}


def _check_end(choice: dict[str, Any]) -> None:
    """Raise if the finish reason says that the text is not the model's answer."""
    given = [choice.get(key) for key in ("finish_reason", "native_finish_reason")]
    reasons = [str(reason.get("type") if isinstance(reason, dict) else reason or "").lower() for reason in given]
    text = text_of(choice)
    if cut := INTERRUPTED.intersection(reasons):
        raise TryAgain(f"the answer was cut off: finish_reason {min(cut)}")
    if withheld := WITHHELD.intersection(reasons):
        raise QuestionError(f"the server's content filter withheld the answer (finish_reason {min(withheld)})")
    if text:
        return
    if choice["message"].get("tool_calls"):
        raise QuestionError("the model called a tool instead of answering with text")
    if reasons[0] not in ENDED or NETWORK.intersection(reasons):
        found = " and ".join(filter(None, reasons)) or "absent"
        raise TryAgain(f"the answer is empty and did not end normally: finish_reason {found}")
    if choice["message"].get("content") and not _is_thought_only(choice["message"]["content"]):
        raise TryAgain(f"no text was found in the answer: {str(choice['message']['content'])[:MAX_CHARACTERS]!r}")


def _is_thought_only(content: Any) -> bool:
    """Whether the content is blank, or has no parts but texts and reasoning."""
    if isinstance(content, str):
        return True
    parts = content if isinstance(content, list) else [content]
    return all(
        isinstance(part, str) or (isinstance(part, dict) and (part.get("type") in THOUGHTS or part.get("text") == ""))
        for part in parts
    )


def text_of(choice: dict[str, Any], *, strip: bool = True) -> str:
    """The text of a choice without reasoning parts; a refusal counts as the model's answer."""
    message = choice["message"] if isinstance(choice["message"], dict) else {}
    content = message.get("content") or message.get("refusal") or ""
    if isinstance(content, list | dict):
        content = "".join(map(_part_text, content if isinstance(content, list) else [content]))
    text = str(content).encode(errors="replace").decode()  # half a surrogate pair cannot be stored
    return text.strip() if strip else text


def _part_text(part: Any) -> str:
    """The text of one part of a content; "" for reasoning and for parts without text."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type") in THOUGHTS:
        return ""
    text = part.get("text")
    text = text.get("value") if isinstance(text, dict) else text
    return text if isinstance(text, str) else ""


def failure_of(code: int | None, reason: str) -> Exception:
    """The exception for a status or a code inside a reply: retry, fail this question, or stop."""
    if code in (400, 422) and (change := setting_to_change(reason)):
        return RefusedField(f"{reason}; add {change}")
    if code in FATAL:
        return RunError(reason)
    if code is None or code in RETRY_STATUSES:
        return TryAgain(reason)
    return QuestionError(reason)


def error_code(error: Any) -> int | None:
    """The HTTP status of an error object; None if it has none."""
    if not isinstance(error, dict):
        return None
    for key in ("code", "status", "statusCode", "status_code", "type"):
        value = error.get(key)
        if isinstance(value, int | float) or (isinstance(value, str) and value.isdecimal()):
            return int(value)
        if isinstance(value, str) and value.lower() in NAMED_CODES:
            return NAMED_CODES[value.lower()]
    return None


def error_words(error: Any) -> str:
    """The message of an error object, or the error itself, as text that can be printed and stored."""
    found = next((error[key] for key in BARE if error.get(key)), error) if isinstance(error, dict) else error
    return printable(str(found))


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
    if "reasoning_effort" in words:
        return "--set api.reasoning_effort=null"
    if "temperature" in words:
        return "--set api.temperature=null"
    if re.search(r"\bdetail\b", words) and "image" in words and _REFUSED.search(words):
        return "--set api.image_detail=null"
    return None


def _json(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        page = text.lstrip()[:1] == "<"
        hint = "a web page, not JSON (is the address right?)" if page else "not JSON"
        raise TryAgain(f"the reply is {hint}: {text[:MAX_CHARACTERS]!r}") from None
    if not isinstance(values, dict):
        raise TryAgain(f"the reply is not a chat completion: {text[:MAX_CHARACTERS]!r}")
    return values


def _streamed(text: str) -> dict[str, Any]:
    """Joins server-sent events into one completion."""
    content, finish, error, done = "", None, None, False
    for line in text.splitlines():
        data = line.removeprefix("data:").strip()
        done = done or data == "[DONE]"
        if not line.startswith("data:") or data == "[DONE]":
            continue
        chunk = _json(data)
        error = chunk.get("error") or error
        choices = chunk.get("choices")
        for choice in choices[:1] if isinstance(choices, list) else []:
            if isinstance(choice, dict):
                content += text_of({"message": choice.get("delta") or choice.get("message") or {}}, strip=False)
                finish = choice.get("finish_reason") or finish
    if not (error or finish or (done and content)):
        raise TryAgain(f"the streamed answer has no end: {text[-MAX_CHARACTERS:]!r}")
    message = {"role": "assistant", "content": content}
    whole: dict[str, Any] = {"choices": [{"message": message, "finish_reason": finish}]}
    return whole | ({"error": error} if error else {})
