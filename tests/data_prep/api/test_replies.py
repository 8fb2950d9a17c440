"""Replies as servers send them: which are answers, which are tried again, which end a question or all."""

import importlib.util
import json
from pathlib import Path

import pytest

from configs.errors import RunError
from data_prep.api.client import retry_after
from data_prep.api.replies import QuestionError, RefusedField, TryAgain, completion_of, setting_to_change, text_of
from data_prep.api.reply import reply_of

CASES = Path(__file__).resolve().parents[4] / "shared" / "cases" / "api_replies.py"


def reply(message, finish="stop", **choice):
    return json.dumps({"choices": [{"message": message, "finish_reason": finish, **choice}]}).encode()


def says(content, **more):
    return {"role": "assistant", "content": content, **more}


ANSWERS = {
    "text": (reply(says(" B ")), "B"),
    "parts": (reply(says([{"type": "text", "text": "B"}])), "B"),
    "parts with thoughts": (
        reply(says([{"type": "reasoning", "text": "A?"}, {"type": "output_text", "text": "B"}])),
        "B",
    ),
    "a refusal": (reply(says(None, refusal="I will not.")), "I will not."),
    "nothing": (reply(says("")), ""),
    "the older form": (json.dumps({"choices": [{"text": "B", "finish_reason": "stop"}]}).encode(), "B"),
    "chunks": (
        b'data: {"choices":[{"delta":{"content":"B"}}]}\n\ndata: {"choices":[{"delta":{"content":" !"}}]}\n'
        b"data: [DONE]\n",
        "B !",
    ),
    "a byte-order mark": (b"\xef\xbb\xbf" + reply(says("B")), "B"),
    "content as one part": (reply(says({"type": "text", "text": "B"})), "B"),
    "parts that are texts": (reply(says(["B", {"type": "text", "text": {"value": "!"}}])), "B!"),
    "half a surrogate pair": (reply(says("B\ud83d")), "B?"),
    "another name of the end": (reply(says(""), "EOS", native_finish_reason="end_of_text"), ""),
    "an unknown end with a text": (reply(says("B"), "repetition"), "B"),
    "error that is null": (json.dumps({"error": None, **json.loads(reply(says("B")))}).encode(), "B"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_its_words_without_thoughts(name):
    body, text = ANSWERS[name]
    assert reply_of(completion_of(body), 0.1).text == text


FAILURES = {
    "finish_reason error with a beginning": (reply(says("The ans"), "error"), TryAgain),
    "an error object in the choice": (reply(says(""), "error", error={"code": 502, "message": "idle"}), TryAgain),
    "a network error with nothing said": (reply(says(""), native_finish_reason="network_error"), TryAgain),
    "429 inside 200": (json.dumps({"choices": None, "error": {"message": "slow", "code": 429}}).encode(), TryAgain),
    "429 as text": (json.dumps({"error": {"message": "slow", "code": "429"}}).encode(), TryAgain),
    "402 inside 200": (json.dumps({"error": {"message": "no credits", "code": 402}}).encode(), RunError),
    "a key refused by name": (json.dumps({"error": {"message": "x", "code": "invalid_api_key"}}).encode(), RunError),
    "400 inside 200": (json.dumps({"error": {"message": "bad image", "code": 400}}).encode(), QuestionError),
    "an error without a code": (json.dumps({"error": "overloaded"}).encode(), TryAgain),
    "a filtered answer": (reply(says(""), "content_filter"), QuestionError),
    "a tool call": (reply(says(None, tool_calls=[{"id": "1"}]), "tool_calls"), QuestionError),
    "no message": (reply(None), TryAgain),
    "no choices": (b'{"choices": []}', TryAgain),
    "a web page": (b"<!DOCTYPE html><html>Sign in</html>", TryAgain),
    "an error among chunks": (b'data: {"error": {"code": 503, "message": "x"}}\n', TryAgain),
    "a list": (b"[]", TryAgain),
    "chunks without an end": (b'data: {"choices":[{"delta":{"content":"The answer"}}]}\n\n', TryAgain),
    "chunks without a choice": (b'data: {"choices":["x"]}\n\ndata: [DONE]\n', TryAgain),
    "an error as the whole reply": (b'{"object": "error", "message": "no such model", "code": 404}', RunError),
    "a refusal of the key as the whole reply": (b'{"detail": "Not authenticated", "status": 401}', RunError),
    "a waiting line as the whole reply": (b'{"message": "Too many requests", "statusCode": 429}', TryAgain),
    "an error by its name": (b'{"error": {"type": "authentication_error", "message": "x"}}', RunError),
    "a beginning before an abort": (reply(says("The ans"), "abort"), TryAgain),
    "a withheld answer": (reply(says(""), "SAFETY"), QuestionError),
    "nothing without a reason": (reply(says(""), None), TryAgain),
    "nothing for an unknown reason": (reply(says(None), "engine_stopped"), TryAgain),
    "an image instead of text": (reply(says([{"type": "image_url", "image_url": {}}])), TryAgain),
    "nested too deep": (b"[" * 100_000, TryAgain),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_that_looks_like_an_answer_is_none(name):
    body, kind = FAILURES[name]
    with pytest.raises(kind):
        completion_of(body)


def test_an_error_whose_text_ends_in_half_a_character_can_be_printed_and_stored():
    body = json.dumps({"error": {"message": "bad image \ud83d", "code": 400}}).encode()
    with pytest.raises(QuestionError, match="bad image") as raised:
        completion_of(body)
    assert str(raised.value).encode().endswith(b"bad image \\ud83d")


@pytest.mark.skipif(not CASES.is_file(), reason="replies of public bug reports are not here")
def test_reported_replies_are_answers_or_named_failures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the file with the replies writes them as JSON into the current folder
    spec = importlib.util.spec_from_file_location("api_reply_cases", CASES)
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    seen = {}
    for name, case in cases.C:
        if isinstance(case, str) or case.get("status", 200) != 200:
            continue
        body = case["body"] if isinstance(case["body"], str) else json.dumps(case["body"])
        try:
            seen[name] = text_of(completion_of(body.encode())["choices"][0])
        except (TryAgain, QuestionError, RunError) as error:
            seen[name] = type(error).__name__
    assert list(seen.values()) == [
        "B", "B", "B", "B", "", "", "", "TryAgain", "TryAgain", "TryAgain", "RunError", "TryAgain",
        "TryAgain", "TryAgain",
        "QuestionError", "I'm sorry, I can't assist with that.", "QuestionError", "TryAgain", "B", "B",
        "B. Because the animal", "<think>Is the answer A? Let me see",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.", "length_field="),
        (
            "Unsupported value: 'temperature' does not support 0. Only the default (1) value is supported.",
            "temperature=",
        ),
        ("Unrecognized request argument supplied: max_completion_tokens", "length_field=max_tokens"),
        ("The image is too large", None),
        ("max_tokens is not permitted for this model", "length_field=max_completion_tokens"),
        ("Please use max_completion_tokens in place of the field max_tokens", "length_field=max_completion_tokens"),
        ("Extra inputs are not permitted: body.max_completion_tokens", "length_field=max_tokens"),
        ("'max_completion_tokens' is unexpected here, did you mean 'max_tokens'?", "length_field=max_tokens"),
        ("`temperature` is deprecated for this model", "temperature=null"),
        ("temperature must be strictly positive", "temperature=null"),
        ("temperature may only be set to 1 when thinking is enabled", "temperature=null"),
        ("messages.0.content.1.image_url.detail: unknown field", "image_detail=null"),
        ("max_tokens is too large: 9000. This model supports at most 4096 completion tokens", None),
        ("This model's maximum context length is 4096 tokens; you requested max_tokens 5000", None),
        ("The prompt was filtered", None),
    ],
)
def test_a_refused_field_names_the_setting_to_change(message, change):
    found = setting_to_change(json.dumps({"error": {"message": message}}))
    assert (found is None) if change is None else (change in (found or ""))


def test_a_field_refused_inside_a_reply_is_no_answer_and_names_the_setting():
    error = {"code": 400, "message": "Unsupported parameter: 'max_tokens'"}
    with pytest.raises(RefusedField, match=r"--set api\.length_field=max_completion"):
        completion_of(json.dumps({"error": error}).encode())


def test_a_retry_after_date_without_a_zone_is_in_gmt(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    monkeypatch.setattr("data_prep.api.client.time.time", lambda: 1445412480.0)  # Wed, 21 Oct 2015 07:28:00 GMT
    assert retry_after("Wed, 21 Oct 2015 07:28:30") == 30.0
    assert retry_after("Wed, 21 Oct 2015 07:28:30 GMT") == 30.0
