import gzip
import json

import pytest

from configs.errors import ConfigError, DataError
from data_prep.readers import llava
from data_prep.sample import Drop
from data_prep.validate import unusable


def talk(*texts: str, first: str = "human") -> list[dict[str, str]]:
    speakers = ("human", "gpt") if first == "human" else ("gpt", "human")
    return [{"from": speakers[place % 2], "value": text} for place, text in enumerate(texts)]


@pytest.fixture
def read(tmp_path):
    """Reads one record as the reader does, with pictures under coco/ and vg/."""
    for name in ("coco/a.jpg", "vg/b.png", "vg/c.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"picture")

    def read(*rows, **options):
        file = tmp_path / "data.json"
        file.write_text(json.dumps(list(rows)))
        return list(llava.read(file, **options).records)

    return read


def test_a_conversation_keeps_all_its_turns_its_image_and_their_id(read, tmp_path):
    turns = talk("<image>\nWhat?", "A cat.", "Where?", "On a mat.")
    (record,) = read({"id": "000", "image": "coco/a.jpg", "conversations": turns})
    assert record.image == tmp_path / "coco/a.jpg"
    assert [turn.text for turn in record.turns] == ["<image>\nWhat?", "A cat.", "Where?", "On a mat."]
    assert record.meta == {"llava_id": "000", "image": "coco/a.jpg"}
    assert unusable(record, 0) is None


def test_ids_are_places_in_the_file_because_theirs_repeat(read):
    records = read(*[{"id": "same", "conversations": talk("a?", "b")}] * 3)
    assert [record.id for record in records] == ["0000000", "0000001", "0000002"]


@pytest.mark.parametrize("row", [{}, {"image": None}])
def test_a_record_without_an_image_is_text_only(read, row):
    (record,) = read({"conversations": talk("a?", "b"), **row})
    assert record.image is None
    assert unusable(record, 0) is None


def test_a_conversation_opened_by_the_assistant_loses_that_turn_as_in_llava(read):
    (record,) = read({"conversations": talk("hello", "a?", "b", first="gpt")})
    assert [turn.text for turn in record.turns] == ["a?", "b"]


@pytest.mark.parametrize(("named", "found"), [("vg/b.jpg", "vg/b.png"), ("vg/c.jpg", "vg/c.gif")])
def test_a_wrong_extension_finds_the_file_with_the_same_stem(read, tmp_path, named, found):
    (record,) = read({"image": named, "conversations": talk("<image>\na?", "b")})
    assert record.image == tmp_path / found


def test_several_roots_are_searched_in_order_or_chosen_by_prefix(read, tmp_path):
    row = {"image": "b.png", "conversations": talk("<image>\na?", "b")}
    roots = [str(tmp_path / "coco"), str(tmp_path / "vg")]
    assert read(row, image_roots=roots)[0].image == tmp_path / "vg/b.png"
    prefixed = {"image": "VG_100K/b.png", "conversations": talk("<image>\na?", "b")}
    roots = {"": str(tmp_path / "coco"), "VG_100K": str(tmp_path / "vg")}
    assert read(prefixed, image_roots=roots)[0].image == tmp_path / "vg/b.png"


def test_a_root_that_is_no_folder_is_an_error_at_once(read):
    with pytest.raises(DataError, match="image root /no/such/folder is not a folder"):
        read(image_roots={"coco": "/no/such/folder"})


def test_all_missing_roots_are_named_with_how_to_leave_them_out(read, tmp_path):
    roots = {"coco": str(tmp_path / "coco"), "gqa": "/no/gqa", "vg": "/no/vg"}
    with pytest.raises(DataError, match=r"image roots /no/\w+, /no/\w+ are not folders; .*`image_roots: {") as error:
        read(image_roots=roots)
    assert "gqa: null" in str(error.value)
    assert "vg: null" in str(error.value)
    assert "coco" not in str(error.value)
    with pytest.raises(DataError, match=r"roots /no/a, /no/b are not folders; set the option image_roots of"):
        read(image_roots=["/no/a", "/no/b"])
    with pytest.raises(ConfigError, match="image_roots names no folder"):
        read(image_roots={})


def test_a_null_root_leaves_out_the_one_of_the_base_file_and_wrong_options_are_errors(tmp_path, capsys):
    from data_prep import build

    (tmp_path / "coco").mkdir()
    (tmp_path / "talk.json").write_text(json.dumps([{"conversations": talk("a?", "b")}]))
    roots = "{coco: /no/coco, gqa: /no/gqa}"
    (tmp_path / "base.yaml").write_text(
        f"name: x\nmodel: {{base: x}}\ntrain: {{sources: [talk]}}\ndata: {{shards: {tmp_path}/shards, sources: {{talk: "
        f"{{reader: llava, path: {tmp_path}/talk.json, options: {{image_roots: {roots}}}}}}}}}"
    )
    own = tmp_path / "own.yaml"
    for written, told in (
        (f"{{coco: {tmp_path}/coco, gqa: null}}", None),
        (f"{tmp_path}/coco", None),  # what is no mapping replaces one
        (f"[{tmp_path}/coco]", None),
        ("null", None),
        ("{coco: null, gqa: null}", "image_roots names no folder"),
        ("{coco: [a, b]}", "option image_roots of reader llava has ['a', 'b'] at 'coco'; each entry must be str"),
        ("[3]", "option image_roots of reader llava has 3 at 1; each entry must be str"),
        ("true", "option image_roots of reader llava is True; it must be dict or list or str or nothing"),
    ):
        own.write_text(f"base: base.yaml\ndata: {{sources: {{talk: {{options: {{image_roots: {written}}}}}}}}}")
        if told is None:
            build.main(["--config", str(own), "--check-only"])
            continue
        with pytest.raises(SystemExit, match="2"):
            build.main(["--config", str(own), "--check-only"])
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1


def test_a_dropped_conversation_is_named_by_its_number_and_its_own_id(tmp_path, write_config, capsys):
    from data_prep import build

    rows = [{"conversations": talk("a?", "b")}, {"id": "000000033471"}]
    rows += [{"id": 7, "conversations": talk("a?", " ")}, {"conversations": talk("a?", "")}]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    config = str(write_config(tmp_path / "data.json", "llava", max_drop_fraction=0.8))
    build.main(["--config", config, "--check-only"])
    listed = capsys.readouterr().out
    assert "0000001, id 000000033471: malformed record" in listed
    assert "0000002, id 7: empty answer" in listed
    assert "0000003: empty answer" in listed
    build.main(["--config", config])
    assert "1 x malformed record (0000001, id 000000033471)" in capsys.readouterr().out
    build.main(["--config", config])
    assert "1 x malformed record (0000001, id 000000033471)" in capsys.readouterr().out, (
        "shards that are kept say it too"
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"image": ["a", "b"], "conversations": talk("<image>\na?", "b")}, "several images"),
        ({"image": "../secret.jpg", "conversations": talk("<image>\na?", "b")}, "unsafe image path"),
        ({"image": "/etc/passwd", "conversations": talk("<image>\na?", "b")}, "unsafe image path"),
        ({"image": "a\0b", "conversations": talk("<image>\na?", "b")}, "unsafe image path"),
        ({"image": 7, "conversations": talk("<image>\na?", "b")}, "unsafe image path"),
        ({"id": "1"}, "malformed record"),
        ({"conversations": [{"from": "robot", "value": "x"}]}, "malformed record"),
        ({"conversations": [{"from": "human", "value": 3}]}, "malformed record"),
        ("text", "malformed record"),
    ],
)
def test_records_that_cannot_be_read_are_drops_with_a_reason(read, row, reason):
    (record,) = read(row)
    assert isinstance(record, Drop)
    assert record.reason.startswith(reason)


def test_an_image_outside_every_prefix_is_a_drop(read, tmp_path):
    row = {"image": "gqa/a.jpg", "conversations": talk("<image>\na?", "b")}
    (record,) = read(row, image_roots={"coco": str(tmp_path / "coco")})
    assert record.reason == "no image root: no prefix of image_roots fits; they are coco"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"image": "coco/a.jpg", "conversations": talk("a?", "b")}, "wrong number of <image>: 0 for 1"),
        ({"image": "coco/a.jpg", "conversations": talk("<image><image>\na?", "b")}, "wrong number of <image>: 2 for 1"),
        ({"conversations": talk("<image>\na?", "b")}, "wrong number of <image>: 1 for 0"),
        ({"image": "", "conversations": talk("<image>\na?", "b")}, "wrong number of <image>: 1 for 0"),
        ({"conversations": talk("a?", "")}, "empty answer"),
        ({"conversations": []}, "turns do not alternate"),
    ],
)
def test_conversations_that_cannot_be_trained_on_are_named_by_the_build(read, row, reason):
    (record,) = read(row)
    assert unusable(record, 0).startswith(reason)


def test_a_missing_image_becomes_a_drop_of_the_build(tmp_path, write_config, picture):
    from data_prep import build
    from data_prep.shards import ShardSet

    (tmp_path / "a.png").write_bytes(picture())
    rows = [{"image": f"{name}.jpg", "conversations": talk("<image>\na?", "b")} for name in ("a", "gone")]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    build.main(["--config", str(write_config(tmp_path / "data.json", "llava", max_drop_fraction=0.5))])
    shards = ShardSet.open(tmp_path / "shards/pets")
    (drop,) = shards.manifest.drops
    assert (drop.id, drop.file) == ("0000001", str(tmp_path / "gone.jpg"))
    assert drop.reason.startswith("missing file")
    assert shards.sample(0).image == picture()


def test_lines_of_json_are_read_too_and_half_a_file_is_an_error(tmp_path):
    row = json.dumps({"conversations": talk("a?", "b")})
    (tmp_path / "data.jsonl").write_text(f"{row}\n{row}\n")
    (tmp_path / "data.jsonl.gz").write_bytes(gzip.compress(f"{row}\n{row}\n".encode()))
    for name in ("data.jsonl", "data.jsonl.gz"):
        assert len(list(llava.read(tmp_path / name).records)) == 2
    (tmp_path / "half.json").write_text(f"[{row}, {row[:20]}")
    with pytest.raises(DataError, match=r"half\.json is not valid JSON"):
        llava.read(tmp_path / "half.json")
    (tmp_path / "object.json").write_text(row)
    with pytest.raises(DataError, match="holds one object, not a list of records"):
        llava.read(tmp_path / "object.json")


def test_half_characters_and_impossible_names_are_named_drops_of_the_build(tmp_path, write_config, picture, capsys):
    from data_prep import build
    from data_prep.shards import ShardSet

    (tmp_path / "a.jpg").write_bytes(picture())
    half = "\ud83d"  # an emoji that was cut in two, as texts from the web have it
    rows = [{"image": "a.jpg", "conversations": talk("<image>\na?", "b")}]
    rows += [{"image": "a.jpg", "conversations": talk("<image>\na?", half)}]
    rows += [{"image": name, "conversations": talk("<image>\na?", "b")} for name in (f"{half}.jpg", "x" * 300 + ".jpg")]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    build.main(["--config", str(write_config(tmp_path / "data.json", "llava", max_drop_fraction=0.8))])
    shards = ShardSet.open(tmp_path / "shards/pets")
    assert len(shards) == 1
    reasons = [drop.reason.partition(":")[0] for drop in shards.manifest.drops]
    assert reasons == ["not Unicode", "missing file", "missing file"]
    assert "\\ud83d.jpg" in capsys.readouterr().out


def test_a_file_in_another_encoding_is_an_error_in_one_line(tmp_path):
    (tmp_path / "data.json").write_bytes(b'[{"caption": "caf\xe9"}]')
    with pytest.raises(DataError, match="is not UTF-8"):
        llava.read(tmp_path / "data.json")
