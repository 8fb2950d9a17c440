"""A file of replies: nothing asked twice, nothing lost, the largest spending before the first request."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from chat_api_server import completion, failure

from configs.api import ApiConfig
from configs.errors import ConfigError, DataError, RunError
from data_prep.api.messages import ImagePart, Message
from data_prep.api.question_file import AskedModel, Question, ask_questions
from data_prep.line_file import LineAppender

ROOT = Path(__file__).resolve().parents[3]
API = {"backoff": 0.001, "concurrency": 3, "attempts": 4, "timeout": 20.0}


def model(max_tokens=5, name="some-model", **api):
    return AskedModel(name, ApiConfig(**(API | api)), max_tokens)


def questions(count=10, text="What is {}?"):
    return [Question(f"q{n}", (Message("user", text.format(n)),)) for n in range(count)]


@pytest.fixture
def ask(tmp_path):
    def run(asked=None, of=None, **options):
        return ask_questions(tmp_path / "replies.jsonl", asked or questions(), of or model(), name="test", **options)

    return run


def test_a_restart_asks_nothing_twice_and_a_torn_line_is_asked_again(chat_api, ask, tmp_path):
    server = chat_api(completion("yes"))
    assert {r.text for r in ask().replies.values()} == {"yes"}
    file = tmp_path / "replies.jsonl"
    kept = file.read_text().splitlines(keepends=True)[:7]
    file.write_text("".join(kept) + '{"id": "q')
    found = ask()
    assert len(found.replies) == 10
    assert len(server.requests) == 10 + 3
    assert len(ask().replies) == 10
    assert len(server.requests) == 13
    assert len(file.read_text().splitlines()) == 10


def test_each_failed_question_is_kept_with_its_reason_and_asked_again_by_the_next_start(chat_api, ask, capsys):
    server = chat_api(lambda request: failure(400, "flagged") if request["messages"][0]["content"] == "What is 3?"
                   else completion("yes"))  # fmt: skip
    found = ask()
    assert found.failures == {"q3": "status 400: flagged"}
    assert len(found.replies) == 9
    assert "9 of 10 questions answered, 1 failed" in capsys.readouterr().err
    server.replies = [completion("now")]
    found = ask()
    assert (found.failures, found.replies["q3"].text, len(server.requests)) == ({}, "now", 11)
    assert "1 question to ask (9 have replies, 1 failed before)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "bad",
    [
        failure(429, Retry_After="0.01"),
        failure(500),
        (200, {}, b"no json"),
        (200, {}, b'{"choices": []}'),
        (200, {"Content-Length": "50"}, b"{"),
    ],
    ids=["429", "500", "no json", "no choice", "cut"],
)
def test_what_fails_on_the_way_changes_no_reply(chat_api, ask, bad):
    server = chat_api(bad, bad, completion("yes"))
    found = ask(questions(2), model(timeout=0.5, concurrency=1))
    assert [found.replies[f"q{n}"].text for n in range(2)] == ["yes", "yes"]
    assert len(server.requests) == 4


def test_how_a_reply_ended_is_stored(chat_api, ask):
    refusal = json.dumps({"choices": [{"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}]})
    chat_api(completion("a long", finish_reason="length"), (200, {}, refusal.encode()),
          completion("", finish_reason="content_filter"))  # fmt: skip
    for _ in range(2):  # from the server, then from the file
        found = ask(questions(3), model(concurrency=1))
        assert (found.replies["q0"].cut, found.replies["q0"].refused, found.replies["q0"].tokens_in) == (True, False, 9)
        assert (found.replies["q1"].text, found.replies["q1"].refused) == ("No.", True)
        assert "content filter" in found.failures["q2"]


def test_another_request_under_the_same_id_is_asked_and_the_old_reply_is_kept(chat_api, ask, tmp_path):
    server = chat_api(completion("yes"))
    ask(questions(2))
    for changed in (
        {"asked": questions(2, "Who is {}?")},
        {"asked": questions(2), "of": model(6)},
        {"asked": questions(2), "of": model(temperature=0.5)},
        {"asked": questions(2), "of": model(name="other")},
    ):
        before = len(server.requests)
        ask(**changed)
        assert len(server.requests) == before + 2
    ask(questions(2), model(timeout=3.0, concurrency=1, length_field="max_completion_tokens"))
    assert len(server.requests) == 10
    assert len((tmp_path / "replies.jsonl").read_text().splitlines()) == 10


def test_the_largest_spending_is_printed_before_the_first_request(chat_api, ask, capsys, picture):
    printed = []
    chat_api(lambda request: printed.append(capsys.readouterr().err) or completion("yes"))
    prices = {"price_in": 2.0, "price_out": 10.0, "image_tokens": 1000, "concurrency": 1}
    shown = [Question("a", (Message("user", "x" * 984, (ImagePart.of_reader(lambda: picture(1)),)),))]
    ask(shown, model(500, **prices))
    assert (
        "up to 4 requests, up to 8,000 tokens of questions, answers of up to 2,000 tokens, at most 0.04 in"
        in printed[0]
    )
    ask(shown, model(501, **(prices | {"image_tokens": None})))
    assert "largest cost unknown (needs api.image_tokens)" in printed[1]
    assert "9 tokens of questions and 3 of answers, cost 0.0000" in capsys.readouterr().err


def test_a_dry_run_needs_no_address_and_writes_nothing(ask, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert ask(questions(4), dry_run=True).replies == {}
    assert "test: 4 questions to ask of some-model: up to 16 requests" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL"):
        ask()


def test_a_broken_image_fails_its_question_only_and_sends_nothing(chat_api, ask, picture):
    server = chat_api(completion("yes"))
    parts = [ImagePart.of_reader(data) for data in (lambda: picture(1), lambda: picture(2)[:40])]
    asked = [Question(str(n), (Message("user", "What?", (part,)),)) for n, part in enumerate(parts)]
    found = ask(asked)
    assert list(found.replies) == ["0"]
    assert "does not decode" in found.failures["1"]
    assert len(server.requests) == 1


def test_a_server_that_is_down_stops_and_the_next_start_continues(chat_api, ask, capsys):
    server = chat_api(completion("yes"), completion("yes"), failure(500))
    with pytest.raises(RunError, match="3 questions in a row had no answer from some-model"):
        ask(of=model(attempts=1, give_up_after=3, concurrency=1))
    assert "2 of 10 questions answered, 3 failed, 5 not asked" in capsys.readouterr().err
    server.replies = [completion("yes")]
    assert len(ask().replies) == 10
    assert len(server.requests) == 5 + 8


def test_lines_that_are_no_replies_and_ids_used_twice_are_named(chat_api, ask, tmp_path):
    chat_api(completion("yes"))
    with pytest.raises(DataError, match="two questions have the id 'q0'"):
        ask([*questions(1), *questions(1)])
    (tmp_path / "replies.jsonl").write_text('{"id": "q0", "request": "0"}\n')
    with pytest.raises(DataError, match=r"replies\.jsonl, line 1 is not a stored reply"):
        ask()


def test_two_processes_do_not_ask_the_same_questions(chat_api, ask, tmp_path):
    server = chat_api(completion("yes"))
    with LineAppender(tmp_path / "replies.jsonl", ""), pytest.raises(RunError, match="another process"):
        ask()
    assert not server.requests


PROGRAM = """
import sys
from pathlib import Path
from configs.api import ApiConfig
from configs.errors import UserError
from data_prep.api.messages import Message
from data_prep.api.question_file import AskedModel, Question, ask_questions
asked = [Question(f"q{n}", (Message("user", f"What is {n}?"),)) for n in range(10)]
try:
    ask_questions(Path(sys.argv[1]), asked, AskedModel("m", ApiConfig(concurrency=2)), name="test")
except UserError as error:
    sys.exit(str(error))
"""


@pytest.mark.slow
def test_ctrl_c_keeps_the_replies_to_requests_already_sent(chat_api, tmp_path):
    started = []

    def reply(request):
        if len(server.requests) == 5:
            os.kill(started[0].pid, signal.SIGINT)
        return completion("yes")

    server = chat_api(reply)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "replies.jsonl")]
    started.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True))
    said = started[0].communicate(timeout=300)[1]
    assert "stopped by SIGINT; the same command continues" in said
    assert len(server.requests) < 10
    assert subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL, timeout=300).returncode == 0
    assert set(Counter(server.texts()).values()) == {1}
    assert len(server.requests) == 10
