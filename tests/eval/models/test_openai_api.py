"""Evaluations of a model behind an API: what is sent, nothing asked twice, failures by name, and the key nowhere."""

import base64
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from chat_api_server import completion, failure

from configs.eval_dir import EvalDir
from eval.run import main
from eval.runner.predictions import read_records

CANARY = "sk-canary-71c8b1d2"
ROOT = Path(__file__).resolve().parents[3]
OPEN = "What type of object is in this photo?"


def records(folder):
    return read_records(EvalDir(folder))


def report(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.mark.slow
def test_every_item_is_asked_once_in_words_and_with_its_file(chat_api, ask, picture):
    server = chat_api(lambda request: completion("It is a cat."))
    folder = ask()
    assert len(server.requests) == 15
    assert set(server.texts()) == {OPEN}
    assert {request["model"] for request in server.requests} == {"some-model"}
    assert {(r["max_tokens"], r["temperature"]) for r in server.requests} == {(6, 0.0)}
    sent = {base64.b64decode(url.removeprefix("data:image/jpeg;base64,")) for url in server.images()}
    assert sent == {picture(10 * label + number) for label in range(3) for number in range(5)}
    assert report(folder)["accuracy"]["count"] == 5
    assert all(p.num_tokens == 3 and p.stopped for p in records(folder).predictions.values())


@pytest.mark.slow
def test_a_resumed_run_asks_nothing_twice(chat_api, ask):
    server = chat_api(completion("a cat"))
    folder = ask()
    file = EvalDir(folder).predictions(0)
    kept = file.read_text().splitlines(keepends=True)[:7]
    file.write_text("".join(kept) + '{"id": "torn')
    ask()
    assert len(server.requests) == 15 + 8
    ask()
    assert len(server.requests) == 23
    assert len(file.read_text().splitlines()) == 15


def test_an_answer_is_on_the_disk_before_the_batch_is_done(chat_api, ask, tmp_path):
    seen = []

    def reply(request):
        file = EvalDir(tmp_path / "answers").predictions(0)
        seen.append(len(file.read_text().splitlines()))
        return completion("a cat")

    chat_api(reply)
    ask(api={"concurrency": 1}, batch_size=15)
    assert seen == list(range(15))


def test_failed_questions_are_named_never_scored_and_asked_again_next_time(chat_api, ask, capsys):
    broken = {"left": 3}

    def reply(request):
        broken["left"] -= 1
        return failure(400, "flagged by the filter") if broken["left"] >= 0 else completion("a cat")

    server = chat_api(reply)
    folder = ask()
    items = report(folder)["items"]
    assert (items["answered"], items["failed"], report(folder)["accuracy"]["n"]) == (12, 3, 12)
    assert {f.reason for f in records(folder).failures.values()} == {"status 400: flagged by the filter"}
    assert "flagged by the filter" in capsys.readouterr().err
    ask()
    assert len(server.requests) == 15 + 3
    assert report(folder)["items"]["failed"] == 0


def test_429_and_500_on_the_way_change_nothing(chat_api, ask):
    bad = [failure(429, Retry_After="0.01"), failure(500), (200, {}, b"{")]
    chat_api(*bad, *bad, completion("a cat"))
    folder = ask(api={"attempts": 8})
    assert report(folder)["items"] == {"expected": 15, "answered": 15, "failed": 0, "missing": 0, "source": 15}


def test_a_server_that_is_down_stops_the_evaluation_and_the_same_command_continues(chat_api, ask, capsys):
    server = chat_api(completion("a cat"), completion("a cat"), failure(500))
    with pytest.raises(SystemExit):
        ask(api={"attempts": 1, "give_up_after": 4, "concurrency": 1})
    assert "4 questions in a row had no answer from some-model" in capsys.readouterr().err
    assert len(server.requests) == 6
    server.replies = [completion("a cat")]
    folder = ask(api={"concurrency": 1})
    assert len(server.requests) == 6 + 13
    assert report(folder)["items"]["answered"] == 15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("message", "name", "value"),
    [("Unsupported parameter: 'max_tokens'", "length_field", "max_completion_tokens"),
     ("`temperature` is deprecated for this model", "temperature", None)],
)  # fmt: skip
@pytest.mark.parametrize("status", [400, 500])
def test_a_refused_field_names_its_setting_and_the_folder_takes_it(chat_api, ask, capsys, message, name, value, status):
    server = chat_api(failure(status, message))
    with pytest.raises(SystemExit):
        ask(api={"attempts": 1, "give_up_after": 4})
    told = capsys.readouterr().err
    assert f"add --set api.{name}={'null' if value is None else value}" in told
    assert "same command continues" not in told
    server.replies = [completion("a cat")]
    folder = ask(api={name: value})
    assert report(folder)["items"]["answered"] == 15
    with pytest.raises(SystemExit):
        ask(api={name: value}, protocol={"prompt": "identify"})
    assert "holds answers to other questions" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("text", [None, "", "<think>Is it a cat?"])
def test_reasoning_that_took_the_whole_limit_is_on_the_last_line_with_the_setting(chat_api, ask, capsys, text):
    replies = [completion(text, finish_reason="length"), completion("a cat")]
    chat_api(lambda request: replies[0] if len(replies) == 1 else replies.pop())
    folder = ask(api={"concurrency": 1})
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert "14 of 15 answers reached the length limit before they answered" in last
    assert "set protocol.max_new_tokens above 6" in last
    assert last.removeprefix("warning: ") in EvalDir(folder).report("md").read_text()


def test_an_answer_that_is_cut_after_it_was_given_is_not_warned_of(chat_api, ask, capsys):
    chat_api(completion("a cat, which", finish_reason="length"))
    ask()
    assert "length limit" not in capsys.readouterr().out


def test_answers_on_their_way_are_kept_when_the_key_is_refused(chat_api, ask, tmp_path, capsys):
    chat_api(completion("a cat"), completion("a cat"), failure(401))
    with pytest.raises(SystemExit):
        ask()
    assert len(records(tmp_path / "answers").predictions) == 2
    assert "refuses every question" in capsys.readouterr().err


def test_the_key_is_nowhere_but_in_the_header(chat_api, ask, capfd):
    server = chat_api(failure(400, f"bad key {CANARY}"), failure(500, CANARY), (200, {}, CANARY.encode()), completion())
    folder = ask()
    assert all(headers["Authorization"] == f"Bearer {CANARY}" for headers in server.headers)
    written = [file for file in folder.rglob("*") if file.is_file()]
    assert len(written) >= 5
    for file in written:
        assert CANARY not in file.read_text()
        assert server.url not in file.read_text()
    seen = capfd.readouterr()
    assert CANARY not in seen.out + seen.err
    assert "15 questions to some-model at 127.0.0.1" in seen.err


def test_the_count_is_reported_before_the_first_request(chat_api, ask, capsys):
    told = []
    server = chat_api(lambda request: told.append(capsys.readouterr().err) or completion("a cat"))
    ask(limit=4, api={"concurrency": 1, "attempts": 3})
    assert len(server.requests) == 4
    assert "4 questions to some-model" in told[0]
    assert "up to 12 requests" in told[0]


def test_a_dry_run_sends_nothing_and_needs_no_key(ask, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    ask("--dry-run", limit=4)
    assert "4 of 4 questions not answered yet" in capsys.readouterr().out


def test_without_an_address_nothing_is_asked(ask, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(SystemExit):
        ask()
    assert "OPENAI_BASE_URL" in capsys.readouterr().err


def test_the_closed_world_lists_the_candidates_and_reasoning_ends_the_question(chat_api, ask, tmp_path):
    server = chat_api(completion("a cat"))
    (tmp_path / "names.txt").write_text("tench\nwild dog\ncat\n")
    protocol = {"task": "closed_world", "classes": str(tmp_path / "names.txt"), "candidates": 2}
    ask(protocol=protocol | {"answer_prefix": "Let's think step by step.", "system_prompt": "Be brief."})
    for request, text in zip(server.requests, server.texts(), strict=True):
        assert text.startswith(f'{OPEN} Choose one from "')
        assert text.endswith("\". Let's think step by step.")
        assert text.count(", ") == 1
        assert request["messages"][0] == {"role": "system", "content": "Be brief."}


def test_multiple_choice_with_and_without_the_image(chat_api, ask):
    server = chat_api(completion("The answer is B."))
    folder = ask(source="quiz", protocol={"task": "multiple_choice"})
    assert report(folder)["accuracy"]["count"] == 2
    assert all(text.startswith("What is this object?\nA. red") for text in server.texts())
    assert len(server.images()) == 8
    server.requests.clear()
    ask(source="quiz", output=str(folder / "blind"), protocol={"task": "multiple_choice", "show_image": False})
    assert {type(r["messages"][0]["content"]) for r in server.requests} == {str}


OFFICIAL = {"temperature": None, "answer_limit": "official", "image_position": "official"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "length", "order"),
    [
        ("api:gpt-4-turbo", None, ["text", "image_url"]),
        ("api:anthropic/claude-3-opus-20240229", 1024, ["image_url", "text"]),
        ("api:gemini-1.0-pro-vision-001", None, ["text", "image_url"]),
    ],
)
def test_the_authors_calls_set_no_temperature_and_a_length_only_for_claude(chat_api, ask, capfd, model, length, order):
    server = chat_api(completion("a cat"))
    ask(model=model, api=OFFICIAL, limit=1)
    (request,) = server.requests
    assert set(request) - {"path"} == {"model", "messages"} | ({"max_tokens"} if length else set())
    assert request.get("max_tokens") == length
    assert [part["type"] for part in request["messages"][0]["content"]] == order
    assert ("answers of up to 1,024 tokens" if length else "answers of any length") in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("name", "official"), [("paper", True), ("official", True), ("clean", False)])
def test_a_protocol_decides_how_an_api_is_called(chat_api, ask, name, official):
    server = chat_api(completion("a cat"))
    ask("--protocol", name, limit=1)
    assert ("temperature" in server.requests[0], "max_tokens" in server.requests[0]) == (not official, not official)


def test_class_scoring_needs_more_than_words(chat_api, ask, tmp_path, capsys):
    chat_api(completion())
    names = tmp_path / "names.txt"
    names.write_text("tench\nwild dog\ncat\n")
    with pytest.raises(SystemExit):
        ask(protocol={"task": "class_likelihood", "classes": str(names)})
    assert "returns text only" in capsys.readouterr().err


def test_another_temperature_is_another_evaluation_and_another_timeout_is_not(chat_api, ask, capsys):
    chat_api(completion("a cat"))
    ask()
    ask(api={"timeout": 5, "concurrency": 1})
    with pytest.raises(SystemExit):
        ask(api={"temperature": 1.0})
    assert "api.temperature was 0.0 and is now 1.0" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_run_continues_and_only_the_question_under_way_is_asked_again(chat_api, write_config, tmp_path):
    started = []

    def reply(request):
        if len(server.requests) == 6:
            os.kill(started[0].pid, signal.SIGKILL)
        return completion("a cat")

    server = chat_api(reply)
    config = str(write_config(model="api:some-model", api={"concurrency": 1}))
    command = [sys.executable, "-m", "eval.run", "--config", config]
    started.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
    assert started[0].wait(timeout=300) == -signal.SIGKILL
    main(["--config", config])
    times = Counter(server.images())
    assert sorted(times.values()) == [1] * 14 + [2]
    assert report(tmp_path / "answers")["items"]["answered"] == 15


def test_an_api_that_refuses_every_question_gives_no_accuracy_and_an_error(chat_api, ask, tmp_path, capsys):
    chat_api(failure(400, "the image is not allowed"))
    with pytest.raises(SystemExit) as ended:
        ask()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert "has no answered item, so there is no accuracy" in said.err
    assert "the image is not allowed" in said.err
    assert "0.0 %" not in said.out
