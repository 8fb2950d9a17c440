"""ImageWikiQA from articles to the final file, against a server that also fails: nothing is asked twice or lost."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from chat_api_server import completion, failure

from configs.load import load_config
from configs.wikiqa import WikiqaConfig
from data_prep import imagewikiqa
from data_prep.class_names import load_class_list
from data_prep.readers.imagewikiqa import read
from data_prep.sample import Sample
from data_prep.wikiqa.classes import wiki_classes
from data_prep.wikiqa.image_stage import choose_images

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("tench", "crane", "crane", "jack-o'-lantern, carved", "mosaïque", "void", "lonely")
KEYS = tuple(f"n{number:08d}" for number in range(len(NAMES)))
IMAGES = (5, 4, 3, 3, 3, 3, 1)


def questions(name: str) -> list[dict]:
    """Five questions; without the class, the first can be guessed."""
    return [
        {
            "question": f"What of {number} does this object eat?",
            "choices": ["hay", "moss", "Right", "dust"],
            "answer": 2,
        }
        | {"answer": 2, "reference": f"The {name} eats."}
        for number in range(5)
    ]


def expert(request: dict):
    """A model that knows all answers with the class, that of the first question without it, and refuses the last."""
    text = request["messages"][-1]["content"]
    if text.startswith("Come up with"):
        name = text.split(" for a ")[1].split(" to examine")[0]
        return completion(f"```json\n{json.dumps(questions(name))}\n```")
    lines = text.splitlines()
    letter = next(line[0] for line in lines if line.endswith(". Right"))
    known = "this object" not in lines[1] or "What of 0 " in lines[1]
    return completion(letter if known else "I cannot know." if "What of 4 " in lines[1] else "A")


@pytest.fixture
def config(tmp_path, picture) -> Path:
    """Articles of all classes but "void", images by class, and a config that does not wait between attempts."""
    (tmp_path / "texts").mkdir()
    for key, name, count in zip(KEYS, NAMES, IMAGES, strict=True):
        if name != "void":
            (tmp_path / "texts" / f"{key}.txt").write_text(f"The {name} eats.")
        (tmp_path / "raw" / key).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "raw" / key / f"{number}.jpg").write_bytes(picture(number))
    for number in range(9):
        (tmp_path / "raw" / KEYS[0] / f"broken{number}.jpg").write_bytes(picture(9)[:200])
    (tmp_path / "classes.json").write_text(json.dumps(dict(zip(KEYS, NAMES, strict=True))))
    (tmp_path / "config.yaml").write_text(
        f"output: {tmp_path / 'out'}\nsource: pets\nmodel: some-model\ntotal: 40\nclasses: {tmp_path}/classes.json\n"
        f"articles: {{path: {tmp_path / 'texts'}}}\napi: {{backoff: 0.001, attempts: 3, concurrency: 3}}\n"
        f"data: {{sources: {{pets: {{reader: image_folder, path: {tmp_path / 'raw'},"
        f" options: {{class_names: {tmp_path / 'classes.json'}}}}}}}}}\n"
    )
    return tmp_path / "config.yaml"


def test_records_that_the_reader_cannot_use_are_counted_and_named(config, tmp_path):
    (tmp_path / "raw" / KEYS[0] / "late.heic").write_bytes(b"\0\0\0\x18ftypheic")
    loaded, _ = load_config(WikiqaConfig, config)
    made, _ = choose_images(loaded, wiki_classes(load_class_list(loaded.classes)), NAMES)
    assert made.counts["records that cannot be used"] == 1
    (named,) = made.named["records that cannot be used"]
    assert "late" in named and "HEIC" in named


def run(config: Path, *arguments: str) -> None:
    imagewikiqa.main(["--config", str(config), *arguments])


def error(config: Path, capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        run(config, *arguments)
    assert stop.value.code == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    return line


def asked(server) -> Counter:
    return Counter(server.texts())


def files(folder: Path) -> dict[str, bytes]:
    """Everything but the replies, which come in another order each time."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and "replies" not in path.name)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.slow
def test_the_result_is_read_like_the_released_file_and_follows_the_papers_rules(chat_api, config, tmp_path, capsys):
    server = chat_api(expert)
    run(config)
    out = tmp_path / "out"
    rows = [json.loads(line) for line in (out / "imagewikiqa.jsonl").read_text().splitlines()]
    assert list(rows[0]) == ["image", "text", "label", "wiki", "classname"]
    assert len(rows) == 3 * 4, "4 wordings that six classes share, three times each"
    assert Counter(row["label"] for row in rows) == dict.fromkeys("ABCD", 3)
    records = list(read(out / "imagewikiqa.jsonl").records)
    assert all(isinstance(record, Sample) and record.image.is_file() for record in records)
    assert all("\nChoose A, B, C, or D." in record.turns[0].text for record in records)
    printed = capsys.readouterr().out
    assert "articles: 7 classes, 6 with an article, 1 without, 1 no page\n  no page: void (n00000005)" in printed
    assert "filter: 30 questions, 24 kept, 6 right without the class, 6 kept without a letter" in printed
    assert "6 images that do not decode, 1 classes with fewer images\n  classes with fewer images: lonely" in printed
    assert "24 kept questions, 64 with an image each, 52 over 3 repeats" in printed
    requests = asked(server)
    assert sum(requests.values()) == 6 + 30 + 30 + 6
    assert len(requests) == 6 - 1 + 30 - 5 + 5, "two classes have one name and the same questions and text"
    run(config, "--compare", str(out / "imagewikiqa.jsonl"))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("repeats of a question"))
    assert line.split()[-1] == "3"


@pytest.mark.slow
def test_the_same_replies_give_the_same_bytes_and_a_second_run_asks_nothing(chat_api, config, tmp_path, capsys):
    server = chat_api(expert)
    run(config, "--limit", "2")
    run(config)
    count, first = len(server.requests), files(tmp_path / "out")
    assert count == 72, "what a limit asked was kept"
    run(config)
    assert len(server.requests) == count
    assert files(tmp_path / "out") == first
    run(config, "--set", f"output={tmp_path / 'other'}", "--set", "api.concurrency=8")
    other = files(tmp_path / "other")
    assert other == first
    capsys.readouterr()
    run(config, "--dry-run", "--json")
    plan = json.loads(capsys.readouterr().out)
    assert plan["total"]["requests"] == 0
    assert [step["stored"] for step in plan["steps"]] == [6, 0, 30, 0, 30, 6]


def test_unusable_replies_are_asked_for_once_more_and_the_better_of_two_counts(chat_api, config, capsys):
    def reply(request):
        text = request["messages"][-1]["content"]
        again = "A former reply could not be used" in text
        if text.startswith("Come up with five multiple-choice questions for a tench"):
            return expert(request) if again else completion("Sure! Here they are:")
        if text.startswith("Come up with five multiple-choice questions for a mosaïque"):
            return completion(json.dumps(questions("mosaïque")[: 1 if again else 2]))
        return expert(request)

    server = chat_api(reply)
    run(config, "--stage", "questions")
    printed = capsys.readouterr().out
    assert "6 classes asked, 2 asked again, 27 questions" in printed
    assert "classes with fewer questions: mosaïque (n00000004): too few questions: 2 in place of 5" in printed
    assert any("could not be used: no question in JSON. Output all five" in text for text in server.texts())
    assert len(server.requests) == 8
    run(config, "--stage", "questions")
    assert len(server.requests) == 8


BROKEN = (
    failure(500), failure(429, Retry_After="0"), (200, {}, b"<html>"), (200, {}, b""),
    completion("", finish_reason="error"), failure(503),
)  # fmt: skip


@pytest.mark.slow
def test_failures_that_pass_are_tried_again_and_others_stop_until_they_are_skipped(chat_api, config, tmp_path, capsys):
    times: Counter[str] = Counter()

    def reply(request):
        text = request["messages"][-1]["content"]
        times[text] += 1
        if "lonely" in text and text.startswith("Come up"):
            return failure(400, "flagged by the filter")
        return BROKEN[(len(text) + times[text]) % len(BROKEN)] if times[text] < 3 else expert(request)

    server = chat_api(reply)
    message = error(config, capsys, "--set", "api.concurrency=1")
    assert "classes without a reply: 1 (the first: n00000006: status 400: flagged by the filter)" in message
    assert "--skip-failed leaves them out" in message
    before = len(server.requests)
    run(config, "--skip-failed", "--set", "api.concurrency=1")
    assert "1 classes without a reply" in capsys.readouterr().out
    assert sum("Come up" in text for text in server.texts()[before:]) == 1, "only the one that failed"
    assert (tmp_path / "out" / "imagewikiqa.jsonl").is_file()


def test_a_dry_run_prints_the_largest_spending_and_asks_and_writes_nothing(config, tmp_path, capsys):
    run(config, "--dry-run", "--set", "api.price_in=10", "--set", "api.price_out=30")
    printed = capsys.readouterr().out
    assert "questions: up to 6 questions, up to 18 requests" in printed
    assert "filter, without class: up to 30 questions, up to 90 requests" in printed
    assert "in all: up to 396 requests" in printed
    assert not (tmp_path / "out").exists()


def test_the_largest_spending_counts_questions_whose_second_answer_is_still_missing(chat_api, config, capsys):
    """The first answers with the class have no letter, and the server ends before the second ones."""

    def silent(request):
        text = request["messages"][-1]["content"]
        if text.startswith("Come up with"):
            return expert(request)
        return completion("Hmm.") if server.texts().count(text) == 1 else failure(401, "no such key")

    server = chat_api(silent)
    assert "refuses every question" in error(config, capsys, "--set", "api.concurrency=1")
    run(config, "--dry-run")
    assert "filter, without class: up to 30 questions" in capsys.readouterr().out


def test_the_largest_spending_on_all_stages_is_printed_before_the_first_request(chat_api, config, capsys):
    printed = []
    chat_api(lambda request: printed.append(capsys.readouterr().err) or failure(401, "no such key"))
    with pytest.raises(SystemExit):
        run(config, "--set", "api.concurrency=1")
    assert "in all: up to 396 requests" in printed[0]


def test_questions_that_name_their_class_are_left_out_if_the_setting_says_so(chat_api, config, capsys):
    def reply(request):
        leak = json.dumps([questions("x")[0] | {"question": f"Where does a {name.upper()} live?"} for name in NAMES])
        return completion(leak) if request["messages"][-1]["content"].startswith("Come up") else expert(request)

    chat_api(reply)
    run(config, "--stage", "questions", "--set", "refuse_leaks=true", "--set", "questions_per_class=7")
    assert "6 that name their class, 6 left out for that" in capsys.readouterr().out


@pytest.mark.slow
def test_a_result_that_was_damaged_is_written_again(chat_api, config, tmp_path):
    server = chat_api(expert)
    run(config)
    made, asked_before = files(tmp_path / "out"), len(server.requests)
    (tmp_path / "out" / "imagewikiqa.jsonl").write_text('{"image": "images/0.j\n[]\n{"image": 3}\n')
    run(config)
    assert (files(tmp_path / "out"), len(server.requests)) == (made, asked_before)


def test_a_filter_that_keeps_nothing_and_a_source_of_other_classes_are_errors(chat_api, config, capsys):
    chat_api(lambda request: completion("?") if "Answer the" in request["messages"][-1]["content"] else expert(request))
    assert "no question was kept by the filter" in error(config, capsys)
    assert "source 'cats' is not in data.sources; it has: pets" in error(config, capsys, "--set", "source=cats")


@pytest.mark.slow
def test_a_kill_in_any_stage_asks_again_only_what_was_on_its_way(chat_api, config, tmp_path):
    """SIGKILL while the 4th, the 20th and the 50th request is answered; then the rest."""
    kills, started = [4, 20, 50], []

    def reply(request):
        if kills and len(server.requests) >= kills[0]:
            kills.pop(0)
            os.kill(started[-1].pid, signal.SIGKILL)
        return expert(request)

    server = chat_api(reply)
    command = [sys.executable, "-m", "data_prep.imagewikiqa", "--config", str(config)]
    codes = []
    for _ in range(4):
        started.append(subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.DEVNULL))
        codes.append(started[-1].wait(timeout=300))
    assert codes == [-signal.SIGKILL] * 3 + [0]
    assert len(server.requests) <= 72 + 3 * 3, "three requests are on their way at once"
    killed = files(tmp_path / "out")
    run(config, "--set", f"output={tmp_path / 'other'}")
    assert files(tmp_path / "other") == killed
