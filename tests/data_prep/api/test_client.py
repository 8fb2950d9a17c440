"""One call of a chat API: what is tried again, what is not, how long it waits, and where the key may go."""

import json

import pytest
from chat_api_server import completion, failure

from configs.api import ApiConfig
from configs.errors import ConfigError, RunError
from data_prep.api import client as api_client
from data_prep.api.client import ApiClient, Endpoint, QuestionError, retry_after

KEY = "sk-canary-71c8b1d2"


def client(server, **settings):
    config = ApiConfig(**{"backoff": 0.001, "attempts": 4, "timeout": 20.0} | settings)
    return ApiClient(config, Endpoint.of(config, {"OPENAI_BASE_URL": server.url + "/", "OPENAI_API_KEY": f" {KEY}\n"}))


def text_of(values):
    return values["choices"][0]["message"]["content"]


def test_a_question_is_posted_with_the_key_in_its_header(chat_api):
    server = chat_api(completion("yes"))
    assert text_of(client(server).ask(b'{"model": "m"}')) == "yes"
    assert server.requests == [{"model": "m", "path": "/v1/chat/completions"}]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "bad",
    [
        failure(429, Retry_After="0"),
        failure(500),
        failure(503, "overloaded"),
        failure(408),
        (200, {}, b"<html>not json</html>"),
        (200, {}, b'{"choices": []}'),
        (200, {}, b'{"choices": [{"message": "text"}]}'),
        (200, {"Content-Length": "500"}, b'{"choices": ['),
    ],
    ids=["429", "500", "503", "408", "no json", "no choice", "no message", "cut off"],
)
def test_what_may_be_better_next_time_is_asked_again(chat_api, bad):
    server = chat_api(bad, bad, completion("at last"))
    quick = {"timeout": 0.5} if "Content-Length" in bad[1] else {}
    assert text_of(client(server, **quick).ask(b"{}")) == "at last"
    assert len(server.requests) == 3


def test_after_the_last_attempt_the_reason_is_reported(chat_api):
    server = chat_api(failure(500, "the disk is full"))
    with pytest.raises(QuestionError, match="no answer after 4 attempts: status 500: the disk is full"):
        client(server).ask(b"{}")
    assert len(server.requests) == 4


def test_a_server_that_never_answers_is_given_up(chat_api):
    silent = client(chat_api("hang"), attempts=2, timeout=0.1)
    opened, timeouts = silent._opener.open, []
    silent._opener.open = lambda request, timeout: timeouts.append(timeout) or opened(request, timeout=timeout)
    with pytest.raises(QuestionError, match="no answer after 2 attempts: TimeoutError"):
        silent.ask(b"{}")
    assert timeouts == [0.1, 0.1]


@pytest.mark.parametrize("status", [400, 403, 413, 422])
def test_a_question_that_is_refused_is_not_repeated(chat_api, status):
    server = chat_api(failure(status, "image too large"))
    with pytest.raises(QuestionError, match=f"status {status}: image too large"):
        client(server).ask(b"{}")
    assert len(server.requests) == 1


@pytest.mark.parametrize("reply", [failure(401), failure(402), failure(404), failure(429, code="insufficient_quota")])
def test_what_holds_for_every_question_ends_the_evaluation(chat_api, reply):
    server = chat_api(reply)
    with pytest.raises(RunError, match="refuses every question"):
        client(server).ask(b"{}")
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_not_followed_so_the_key_stays(chat_api, status):
    other = chat_api(completion())
    server = chat_api((status, {"Location": other.url}, b""))
    with pytest.raises(RunError, match="redirects"):
        client(server).ask(b"{}")
    assert not other.requests


def test_the_servers_wait_is_kept_by_every_thread(chat_api, monkeypatch):
    """The clock stands still unless somebody waits."""
    clock, waits = [1000.0], []
    monkeypatch.setattr(api_client.time, "monotonic", lambda: clock[0])
    shared = client(chat_api(failure(429, Retry_After="40"), completion()))

    def wait(seconds):
        waits.append(seconds)
        clock[0] += max(0.0, seconds)

    monkeypatch.setattr(shared, "_wait", wait)
    shared.ask(b"{}")
    assert waits == [-1000.0, 40.0]
    clock[0] = 1010.0  # another thread asks meanwhile
    shared.ask(b"{}")
    assert waits[2:] == [30.0]
    with pytest.raises(RunError, match="asks to wait 4,000 s"):
        client(chat_api(failure(429, Retry_After="4000"))).ask(b"{}")


def test_pauses_double_and_are_bounded(chat_api, monkeypatch):
    waits = []
    shared = client(chat_api(failure(500)), backoff=20.0, attempts=5)
    monkeypatch.setattr(shared, "_wait", lambda seconds: waits.append(seconds))
    with pytest.raises(QuestionError):
        shared.ask(b"{}")
    pauses = waits[1::2]  # every other wait is the server's
    for pause, longest in zip(pauses, [20, 40, 60, 60], strict=True):
        assert longest / 2 <= pause <= longest


def test_no_message_repeats_the_key(chat_api):
    echo = failure(400, f"Incorrect key: Bearer {KEY}")
    for reply, kind in ((echo, QuestionError), (failure(401, f"no such key {KEY}"), RunError)):
        with pytest.raises(kind) as caught:
            client(chat_api(reply)).ask(b"{}")
        assert KEY not in str(caught.value)
        assert "***" in str(caught.value)
    assert KEY not in repr(Endpoint.of(ApiConfig(), {"OPENAI_BASE_URL": "http://h/v1", "OPENAI_API_KEY": KEY}))


@pytest.mark.parametrize(
    "address",
    ["", "host/v1", "ftp://host", "https://user:secret-pass@host/v1", "https://h/v1?key=secret-pass", "http://[::"],
)
def test_an_address_that_cannot_be_called_is_refused_unquoted(address):
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL") as caught:
        Endpoint.of(ApiConfig(), {"OPENAI_BASE_URL": address})
    assert "secret-pass" not in str(caught.value)
    assert ("is not a usable address" if address else "is not set") in str(caught.value)


def test_a_key_in_the_configuration_is_refused_unquoted():
    with pytest.raises(ConfigError, match="names of environment variables") as caught:
        Endpoint.of(ApiConfig(key_env=KEY), {"OPENAI_BASE_URL": "http://h/v1"})
    assert KEY not in str(caught.value)
    with pytest.raises(ConfigError, match="not allowed in a header") as caught:
        Endpoint.of(ApiConfig(), {"OPENAI_BASE_URL": "http://h/v1", "OPENAI_API_KEY": f"{KEY} x"})
    assert KEY not in str(caught.value)


def test_a_server_without_a_key_gets_none(chat_api):
    server = chat_api(completion())
    config = ApiConfig()
    ApiClient(config, Endpoint.of(config, {"OPENAI_BASE_URL": server.url})).ask(json.dumps({}).encode())
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3.0), ("0.5", 0.5), ("-2", 0.0), (None, None), ("soon", None), ("nan", None)]
)
def test_retry_after_is_seconds(header, seconds):
    assert retry_after(header) == seconds


def test_retry_after_may_be_a_date(monkeypatch):
    monkeypatch.setattr(api_client.time, "time", lambda: 784111777.0 - 30)
    assert retry_after("Sun, 06 Nov 1994 08:49:37 GMT") == 30.0
