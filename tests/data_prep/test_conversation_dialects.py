"""Conversation files in the forms that people have: read, or dropped with what they are and what to do."""

import base64
import json
import math
import unicodedata

import pytest

from data_prep.readers import llava
from data_prep.sample import Drop, Sample
from data_prep.validate import unusable

QUESTION, ANSWER = {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "a cat"}
TALK = [QUESTION, ANSWER]
TEXT_ONLY = [{"from": "human", "value": "2+2?"}, ANSWER]


@pytest.fixture
def read(tmp_path):
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "3.jpg").write_bytes(b"picture")

    def read(row, **options):
        file = tmp_path / "data.json"
        file.write_text(json.dumps([row]))
        (record,) = llava.read(file, **options).records
        return record

    return read


READ = {
    "other roles": {
        "image": "img/3.jpg",
        "conversations": [{**QUESTION, "from": "USER"}, {**ANSWER, "from": "Assistant"}],
    },
    "role and content": {
        "messages": [{"role": "user", "content": "<image>\nWhat?"}, {"role": "assistant", "content": "a cat"}],
        "images": ["img/3.jpg"],
    },
    "content parts": {
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "What?"}, {"type": "image"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "a cat"}]},
        ],
        "images": ["img/3.jpg"],
    },
    "an image inside a content part": {
        "messages": [
            {"role": "user", "content": [{"type": "image", "image": "img/3.jpg"}, {"type": "text", "text": "What?"}]},
            {"role": "assistant", "content": "a cat"},
        ]
    },
    "an image URL that is a path": {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "img/3.jpg"}}, "What?"]},
            {"role": "assistant", "content": "a cat"},
        ]
    },
    "a role with a colon and one of a chatbot": {
        "image": "img/3.jpg",
        "conversations": [{**QUESTION, "from": "Human:"}, {**ANSWER, "from": "ChatGPT"}],
    },
    "turns with a text": {
        "image": "img/3.jpg",
        "messages": [{"role": "prompter", "text": "<image>\nWhat?"}, {"role": "AI", "text": "a cat"}],
    },
    "one image under two keys": {"image": "img/3.jpg", "images": ["img/3.jpg"], "image_id": 3, "conversations": TALK},
    "a file URL below the root": {"image": "file:img/3.jpg", "conversations": TALK},
    "a list of one image": {"image": ["img/3.jpg"], "conversations": TALK},
    "the singular": {"image": "img/3.jpg", "conversation": TALK},
    "turns as text": {"image": "img/3.jpg", "conversations": json.dumps(TALK)},
    "a space behind the path": {"image": "img/3.jpg \n", "conversations": TALK},
    "an object with a path": {"image": {"bytes": None, "path": "img/3.jpg"}, "conversations": TALK},
}


@pytest.mark.parametrize("name", READ)
def test_a_usual_form_is_read(name, read, tmp_path):
    record = read(READ[name])
    assert isinstance(record, Sample)
    assert record.image == tmp_path / "img" / "3.jpg"
    assert [(turn.speaker, turn.text) for turn in record.turns] == [("human", "<image>\nWhat?"), ("gpt", "a cat")]
    assert unusable(record, 0) is None


@pytest.mark.parametrize("nothing", [None, "", [], [""], "None", math.nan])
def test_no_image_in_any_form_is_text_only(nothing, read):
    record = read({"image": nothing, "conversations": TEXT_ONLY})
    assert isinstance(record, Sample)
    assert record.image is None


def test_a_system_message_and_an_id_that_is_no_text_are_kept_apart(read):
    record = read({"id": math.nan, "system": "Be kind.", "conversations": TEXT_ONLY})
    assert record.meta == {"llava_id": None, "system": "Be kind."}
    json.loads(record.to_json(), parse_constant=pytest.fail)


DROPPED = {
    "a capital key": ({"Image": "img/3.jpg", "conversations": TEXT_ONLY}, "image under another key: 'Image'"),
    "another key": ({"image_path": "img/3.jpg", "conversations": TEXT_ONLY}, "image under another key: 'image_path'"),
    "a video": ({"video": "v.mp4", "conversations": TEXT_ONLY}, "image under another key: 'video'"),
    **{
        f"the key {key}": ({key: value, "conversations": TEXT_ONLY}, f"image under another key: '{key}'")
        for key, value in {
            "image_url": "https://example.org/3",
            "imagePath": "3",
            "image-paths": ["3"],
            "file_name": "img/3.jpeg",
            "anything": {"path": "img/3.PNG"},
            "image_id": 17,
        }.items()
    },
    "an image and a video": ({"image": "img/3.jpg", "video": "v", "conversations": TALK}, "image under another key"),
    "two images under two keys": ({"image": "a.jpg", "images": ["b.jpg"], "conversations": TALK}, "several images: 2"),
    **{
        f"the tag {tag}": (
            {"conversations": [{"from": "human", "value": f"{tag} What?"}, ANSWER]},
            "image by another tag",
        )
        for tag in ("<|image_pad|>", "see <|image_1|>", "<IMG_CONTEXT>", "<image1>", "< image >", "[IMG]")
    },
    "an answer that is no target": (
        {"conversations": [QUESTION, {**ANSWER, "loss": False}]},
        "malformed record: turn 1 says loss: False",
    ),
    "a text part that is no text": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ["a"]}]}]},
        "malformed record: the text of a part of turn 0 is ['a']",
    ),
    "a turn of other keys": ({"conversations": [{"question": "a"}]}, "malformed record: turn 0 has the keys question"),
    "a URL of another store": ({"image": "hf://datasets/a/3.jpg", "conversations": TALK}, "image behind a URL"),
    "a home folder": ({"image": "~/3.jpg", "conversations": TALK}, "unsafe image path: '~/3.jpg'"),
    "a Windows path with both": ({"image": "img\\sub/3.jpg", "conversations": TALK}, "Windows path"),
    "a data URI in capitals": ({"image": "DATA:image/png;base64,AAAA", "conversations": TALK}, "image as a data URI"),
    "a data URI of text": (
        {"image": "data:image/svg+xml,<svg/>", "conversations": TALK},
        "image as a data URI without",
    ),
    "base64 without padding": (
        {"image": base64.b64encode(bytes(400)).decode().rstrip("="), "conversations": TALK},
        "image as base64",
    ),
    "another tag": (
        {"conversations": [{"from": "human", "value": "<img>img/3.jpg</img> What?"}, ANSWER]},
        "image by another tag: <img>img/3.jpg</img>",
    ),
    "a capital tag": (
        {"conversations": [{"from": "human", "value": "<Image>\nWhat?"}, ANSWER]},
        "image by another tag",
    ),
    "a URL": ({"image": "https://example.org/3.jpg", "conversations": TALK}, "image behind a URL"),
    "an absolute path": ({"image": "/data/3.jpg", "conversations": TALK}, "unsafe image path"),
    "a file URL": (
        {"image": "file:///data/3.jpg", "conversations": TALK},
        "unsafe image path: '/data/3.jpg'",
    ),
    "a Windows path": ({"image": "img\\3.jpg", "conversations": TALK}, "Windows path"),
    "base64": ({"image": base64.b64encode(bytes(300)).decode(), "conversations": TALK}, "image as base64"),
    "a data URI": ({"image": "data:image/png;base64,AAAA", "conversations": TALK}, "image as a data URI"),
    "a dict of turns": ({"conversations": {"human": "a", "gpt": "b"}}, "malformed record"),
    "no turns": ({"id": "x", "image": "img/3.jpg"}, "malformed record: no list 'conversations'"),
    "a number": ({"conversations": [QUESTION, {"from": "gpt", "value": 3}]}, "malformed record"),
    "a part of another type": (
        {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
        "malformed record: turn 0 has a part of type 'audio'",
    ),
}


@pytest.mark.parametrize("name", DROPPED)
def test_what_is_not_read_is_named_shortly(name, read):
    row, reason = DROPPED[name]
    record = read(row)
    assert isinstance(record, Drop)
    assert record.reason.startswith(reason)
    assert len(record.reason) < 300


def test_other_forms_of_images_are_taken_where_the_option_allows_it(read, tmp_path):
    data = bytes(range(256))
    for value, image in {
        str(tmp_path / "img/3.jpg"): tmp_path / "img/3.jpg",
        f"file://{tmp_path}/img/3.jpg": tmp_path / "img/3.jpg",
        "img\\3.jpg": tmp_path / "img/3.jpg",
        base64.b64encode(data).decode(): data,
        base64.urlsafe_b64encode(data).decode().rstrip("="): data,
        f"data:image/png;base64,{base64.b64encode(data).decode()}": data,
    }.items():
        assert read({"image": value, "conversations": TALK}, image_forms="any").image == image


def test_a_missing_placeholder_is_put_first_where_the_option_says_so(read):
    row = {"image": "img/3.jpg", "conversations": TEXT_ONLY}
    assert (unusable(read(row), 0) or "").startswith("wrong number of <image>")
    first = read(row, missing_placeholder="first")
    assert first.turns[0].text == "<image>\n2+2?"
    assert unusable(first, 0) is None


def test_an_image_under_a_named_key_is_read(read, tmp_path):
    row = {"picture": "img/3.jpg", "conversations": TALK}
    assert read(row, image_key="picture").image == tmp_path / "img" / "3.jpg"


def test_a_reason_has_no_memory_address():
    assert Drop("x", "no <io.BytesIO object at 0x7f00ab>").reason == "no <io.BytesIO object>"


@pytest.mark.parametrize("text", ["What does <img> do in HTML?", "[b]See[/b] [IMG]a[/IMG]", "In XML <image1> is a tag"])
def test_a_text_about_markup_stays_text_only(text, read):
    assert isinstance(read({"source": "a.jpg", "conversations": [{"from": "human", "value": text}, ANSWER]}), Sample)


def test_names_are_found_in_their_other_spellings_and_never_outside_the_folder(read, tmp_path):
    decomposed = unicodedata.normalize("NFD", "caf\u00e9") + ".jpg"
    for name in ("a b.jpg", decomposed, "t\u00e9.jpg"):
        (tmp_path / "img" / name).write_bytes(b"picture")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    for named, found in {
        "img/a%20b.jpg": "a b.jpg",
        "img/caf\u00e9.jpg": decomposed,
        "img/" + unicodedata.normalize("NFD", "t\u00e9") + ".jpg": "t\u00e9.jpg",
    }.items():
        assert read({"image": named, "conversations": TALK}).image == tmp_path / "img" / found
    outside = read({"image": "%2e%2e/secret.jpg", "conversations": TALK}, image_roots=str(tmp_path / "img"))
    assert outside.image == tmp_path / "img" / "%2e%2e/secret.jpg"
