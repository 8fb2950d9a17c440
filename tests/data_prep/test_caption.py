"""Captions by API: each fault counted and asked about once more, nothing asked twice, a file that a build reads."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from chat_api_server import completion, failure

from configs.captions import PROMPT, CaptionConfig
from configs.load import load_config
from configs.run import RunConfig
from data_prep import build
from data_prep.api.reply import Reply
from data_prep.caption import main
from data_prep.caption_check import CAPTION, kind_of_reply, names_class, plain_caption
from data_prep.shards import ShardSet
from data_prep.toy_world.chat_api import serving
from data_prep.toy_world.chat_server import FAULTS, ChatServer
from eval.scorers.match import score_contains
from eval.types import Reference

ROOT = Path(__file__).resolve().parents[2]
NAMED = {"cat": "a cat on a mat.", "wild dog": "Two wild dogs."}


def text_of(request):
    return request["messages"][-1]["content"][0]["text"]


def good(request):
    return completion(next(NAMED[name] for name in NAMED if name in text_of(request)))


@pytest.fixture
def caption(class_folders, tmp_path):
    """Runs the program on 12 photographs of two classes; keyword arguments are settings."""

    def run(*arguments, **settings):
        values = {
            "source": "pets",
            "model": "some-model",
            "output": str(tmp_path / "out" / "captions.jsonl"),
            "data": {"sources": {"pets": {"reader": "image_folder", "path": str(class_folders)}}},
            "api": {"backoff": 0.001, "timeout": 5.0, "attempts": 3, "concurrency": 3},
        } | settings
        file = tmp_path / "captions.yaml"
        file.write_text(json.dumps(values))
        if arguments != ("file only",):
            main(["--config", str(file), *arguments])
        return file

    return run


def lines(tmp_path):
    return [json.loads(line) for line in (tmp_path / "out" / "captions.jsonl").read_text().splitlines()]


def test_each_image_is_asked_once_in_the_papers_words_and_a_build_reads_the_captions(
    chat_api, caption, tmp_path, write_config, capsys
):
    server = chat_api(good)
    caption()
    assert "12 captions of 12 images of pets" in capsys.readouterr().out
    assert Counter(map(text_of, server.requests)) == {PROMPT.replace("<class name>", name): 6 for name in NAMED}
    assert {request["max_tokens"] for request in server.requests} == {100}
    caption()
    assert len(server.requests) == 12
    config = write_config(tmp_path / "out" / "captions.jsonl", "jsonl",
                          "{question: Generate a caption for the image., answer_key: caption}")  # fmt: skip
    build.main(["--config", str(config)])
    shards = ShardSet.open(tmp_path / "shards" / "pets")
    samples = [shards.sample(number) for number in range(len(shards))]
    assert [sample.turns[1].text for sample in samples] == [NAMED[line["label"]] for line in lines(tmp_path)]
    assert [sample.turns[0].text for sample in samples] == ["<image>\nGenerate a caption for the image."] * 12


BAD = {
    "refusal": [completion("I'm sorry, but I can't identify the cat."), completion(None, finish_reason="stop")],
    "no class name": [completion("A small animal."), completion("A caterpillar.")],
    "empty reply": [completion("")],
    "cut off at the limit of tokens": [completion("A cat that", finish_reason="length")],
    "<image> in the text": [completion("<image> A cat.")],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_caption_is_counted_and_asked_about_once_more(chat_api, caption, tmp_path, capsys, kind):
    bad = BAD[kind][0]
    second = "contains exactly these words: "
    server = chat_api(lambda r: bad if "is cat" in text_of(r) and second not in text_of(r) else good(r))
    caption()
    assert f"asked again: 6 (6 x {kind})" in capsys.readouterr().out
    assert (len(server.requests), len(lines(tmp_path))) == (18, 12)
    again = [text_of(request) for request in server.requests if second in text_of(request)]
    assert len(again) == 6 and all(text.endswith(f"{second}cat") for text in again)
    (tmp_path / "out" / "captions.replies.jsonl").unlink()
    server.replies = [lambda r: bad if "is cat" in text_of(r) else good(r)]
    caption("--limit", "12")
    assert f"left out: 6 x {kind} (cat/0, cat/1, cat/2, ...)" in capsys.readouterr().out
    assert {line["label"] for line in lines(tmp_path)} == {"wild dog"}
    before = len(server.requests)
    caption()
    assert len(server.requests) == before, "a second fault is final"
    counts = json.loads((tmp_path / "out" / "captions.summary.json").read_text())
    assert (counts["images"], counts["captions"], counts["left_out"]) == (12, 6, {kind: 6})


def test_a_server_that_fails_in_every_known_way_is_asked_until_all_images_have_captions(
    caption, tmp_path, monkeypatch, capsys
):
    server = ChatServer(fail_every=2)
    with serving(server.answer) as address:
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        caption(api={"backoff": 0.001, "timeout": 0.5, "attempts": 1, "concurrency": 1, "give_up_after": 50})
        first = dict(server.answered)
        for _ in range(4):
            caption(api={"backoff": 0.001, "timeout": 0.5, "attempts": 1, "concurrency": 1, "give_up_after": 50})
    assert set(FAULTS) <= set(server.answered)
    assert first["caption"] < 12
    captions = lines(tmp_path)
    summary = json.loads((tmp_path / "out" / "captions.summary.json").read_text())
    assert len(captions) + sum(summary["left_out"].values()) == 12
    assert "no reply" not in summary["left_out"]
    assert all(names_class(line["caption"], line["label"]) for line in captions)


def test_a_question_without_a_reply_is_asked_again_by_the_next_start(chat_api, caption, tmp_path, capsys):
    server = chat_api(lambda r: failure(400, "flagged") if "is cat" in text_of(r) else good(r))
    caption()
    assert "left out: 6 x no reply (cat/0, cat/1, cat/2, ...)" in capsys.readouterr().out
    server.replies = [good]
    caption()
    assert (len(server.requests), len(lines(tmp_path))) == (18, 12)


@pytest.mark.slow
def test_a_killed_program_continues_and_only_the_question_under_way_is_asked_again(chat_api, caption, tmp_path):
    started = []

    def reply(request):
        if len(server.requests) == 5:
            os.kill(started[0].pid, signal.SIGKILL)
        return good(request)

    server = chat_api(reply)
    config = caption("file only", api={"concurrency": 1})
    command = [sys.executable, "-m", "data_prep.caption", "--config", str(config)]
    started.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
    assert started[0].wait(timeout=300) == -signal.SIGKILL
    assert not (tmp_path / "out" / "captions.jsonl").exists()
    main(["--config", str(config)])
    asked = Counter(request["messages"][0]["content"][1]["image_url"]["url"] for request in server.requests)
    assert sorted(asked.values()) == [1] * 11 + [2]
    assert len(lines(tmp_path)) == 12


def test_a_dry_run_sends_and_writes_nothing_and_prints_the_largest_cost(chat_api, caption, tmp_path, capsys):
    server = chat_api(good)
    prices = {"price_in": 2.5, "price_out": 10, "image_tokens": 1000, "attempts": 1}
    caption("--dry-run", "--limit", "4", api=prices)
    said = capsys.readouterr()
    assert "4 questions to ask and up to 4 a second time of some-model: up to 8 requests" in said.err
    assert "at most 0.04 in all" in said.err
    assert "which is " in said.err
    assert not server.requests
    assert not (tmp_path / "out").exists()


def test_a_limit_chooses_the_same_images_each_time_and_loses_no_captions(chat_api, caption, tmp_path, capsys):
    server = chat_api(good)
    caption("--limit", "4", "--json")
    assert json.loads(capsys.readouterr().out)["captions"] == 4
    chosen = {line["id"] for line in lines(tmp_path)}
    caption()
    assert len(server.requests) == 12
    assert chosen < {line["id"] for line in lines(tmp_path)}
    with pytest.raises(SystemExit):
        caption("--limit", "4")
    assert "has 12 captions and would have at most 4; leave out --limit" in capsys.readouterr().err


def test_a_file_of_somebody_else_is_not_replaced(chat_api, caption, tmp_path, capsys):
    server = chat_api(good)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "captions.jsonl").write_text('{"image": "a.jpg", "caption": "by hand"}\n')
    with pytest.raises(SystemExit):
        caption()
    assert "was not written by this program; set output to another file" in capsys.readouterr().err
    assert not server.requests


def test_the_captions_of_another_source_are_not_replaced(chat_api, caption, class_folders, tmp_path, capsys):
    chat_api(good)
    caption()
    other = {"sources": {"more_pets": {"reader": "image_folder", "path": str(class_folders)}}}
    with pytest.raises(SystemExit):
        caption(source="more_pets", data=other)
    assert "has the captions of source pets, not more_pets; set output to another file" in capsys.readouterr().err
    (tmp_path / "out" / "captions.summary.json").write_text("{")
    with pytest.raises(SystemExit):
        caption()
    assert "captions.summary.json is damaged" in capsys.readouterr().err


def test_images_that_are_no_files_are_written_next_to_the_captions(chat_api, caption, tmp_path, write_config):
    chat_api(lambda r: completion(f"a {text_of(r).partition('which is ')[2].rstrip('.')}"))
    toy = {"reader": "toy_world", "options": {"part": "classification", "images_per_class": 1}}
    caption("--limit", "3", data={"sources": {"pets": toy}})
    for line in lines(tmp_path):
        assert (tmp_path / "out" / line["image"]).read_bytes()[:4] == b"\x89PNG"
        assert line["image"] == f"captions_images/{line['id']}.png"


def test_a_broken_image_is_named_before_anything_is_sent(chat_api, caption, class_folders, capsys):
    server = chat_api(good)
    (class_folders / "cat" / "7.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(SystemExit):
        caption()
    assert "1 of 13 records dropped" in capsys.readouterr().err
    assert not server.requests
    sources = {"pets": {"reader": "image_folder", "path": str(class_folders)}}
    caption(data={"sources": sources, "max_drop_fraction": 0.1})
    assert "left out: 1 x image cannot be read (cat/7: missing file" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"source": "cats"}, "source 'cats' is not in data.sources; it has: pets"),
        ({"prompt": "Describe it."}, "prompt does not contain <class name>"),
        ({"output": "captions.csv"}, "its name must end in .jsonl"),
        ({"model": "api:"}, "model is empty"),
        ({"max_tokens": 0}, "max_tokens is 0; it must be at least 1"),
        ({"max_token": 5}, "unknown key 'max_token'; did you mean max_tokens"),
    ],
)
def test_a_configuration_that_cannot_be_run_is_one_line(caption, capsys, settings, complaint):
    with pytest.raises(SystemExit):
        caption(**settings)
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


def test_a_source_without_classes_is_refused(caption, capsys):
    conversations = {"reader": "toy_world", "options": {"part": "text", "records": 3}}
    with pytest.raises(SystemExit):
        caption(data={"sources": {"pets": conversations}})
    assert "pets" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "name", "kind"),
    [
        ("A guinea pig playing in the grass.", "guinea pig", CAPTION),
        ('Caption: "A GUINEA PIG in an indoor environment."', "guinea pig", CAPTION),
        ("Three guinea\n pigs.", "guinea pig", CAPTION),
        ("A caterpillar on a leaf.", "cat", "no class name"),
        ("A red 2012 BMW X5 SUV.", "BMW X5 SUV 2012", "no class name"),
        ("An audi tt hatchback 2011 (silver)", "Audi TT Hatchback 2011", CAPTION),
        ("Two foxes.", "fox", CAPTION),
        ("Sorry, but I cannot see a fox.", "fox", "refusal"),
        ("I can’t help with images of a fox.", "fox", "refusal"),
        ("I am unable to view the fox.", "fox", "refusal"),
        ("I spy a fox.", "fox", CAPTION),
        ("  ", "fox", "empty reply"),
        ("A yin yang symbol", "yin yang", CAPTION),
        ("A c++ book", "c++", CAPTION),
        ("Here is a short caption: a cafe\u0301 noir", "caf\u00e9 noir", CAPTION),
        ("Sure! Here's a caption that names the fox: a dog", "fox", "no class name"),
    ],
)
def test_what_counts_as_a_caption_also_counts_in_an_evaluation_of_captions(text, name, kind):
    assert kind_of_reply(Reply(text, "stop", False, False, 0, 0, 0.0), name) == kind
    if kind == CAPTION:
        assert score_contains(plain_caption(text), Reference(name)).value


@pytest.mark.parametrize(
    ("text", "caption_in_it"),
    [
        ("“A cat.”", "A cat."),
        ("**Caption:** A cat.", "A cat."),
        ('"A" and "B"', '"A" and "B"'),
        ("'A dog's life'", "'A dog's life'"),
        ("Here's a short caption for the image:\n\n“A cat.”", "A cat."),
        ("Here is a cat: it sleeps.", "Here is a cat: it sleeps."),
        ("Sure foxes.", "Sure foxes."),
        ('""', '""'),
    ],
)
def test_only_marks_around_a_whole_caption_are_removed(text, caption_in_it):
    assert plain_caption(text) == caption_in_it


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flowers102", "stanford_cars", "caltech101", "cifar10", "demo"])
def test_the_shipped_files_write_what_the_training_presets_read(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    file = Path(f"configs/captions/{name}.yaml")
    config, _ = load_config(CaptionConfig, file)
    assert f"--config {file}" in file.read_text().splitlines()[0]
    run, _ = load_config(RunConfig, Path(f"configs/{name}_captions.yaml"))
    (source,) = run.train.sources
    assert run.data.sources[source].path == config.output
    assert run.data.sources[source].options.get("image_root", str(Path(config.output).parent)) == str(
        Path(config.output).parent
    )
    assert config.prompt == PROMPT
