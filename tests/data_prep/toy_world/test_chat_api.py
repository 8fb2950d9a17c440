"""A server that stands in for a model: what is no chat, a port that cannot be used, and its end."""

import json
import urllib.error
import urllib.request

import pytest

from data_prep.toy_world.chat_api import Request, completion, serving
from data_prep.toy_world.chat_server import main
from eval.demo_judge import main as judge


def post(address, body):
    request = urllib.request.Request(f"{address}/chat/completions", data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_a_request_that_is_no_chat_is_refused_and_the_next_one_is_answered():
    with serving(lambda request: completion(request.text)) as address:
        for body in (b"", b"{", b'{"messages": []}', b'{"messages": [{"content": 3}]}', b"[]"):
            status, values = post(address, body)
            assert status == 400 and "no chat request" in values["error"]["message"], body
        status, values = post(address, json.dumps({"messages": [{"role": "user", "content": "a cat"}]}).encode())
    assert (status, values["choices"][0]["message"]["content"]) == (200, "a cat")


def test_the_text_of_a_request_is_that_of_its_last_message_without_images():
    parts = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "What is this?"}]
    body = json.dumps({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]})
    assert Request("/", {}, body.encode()).text == "What is this?"


@pytest.mark.parametrize("program", [main, judge])
def test_a_port_that_cannot_be_used_is_one_line(program, capsys):
    with serving(lambda _: completion("")) as address:
        taken = address.split(":")[2].split("/")[0]
        for port in (taken, "70000"):
            with pytest.raises(SystemExit) as left:
                program(["--port", port])
            assert left.value.code == 2
            error = capsys.readouterr().err
            assert f"port {port} cannot be used" in error and "choose another one with --port" in error
