"""Candidates from one running stream, against the authors' loop over all items."""

import json
import random

import pytest

from configs.errors import RunError
from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from eval.run import main
from eval.runner.predictions import read_records
from eval.tasks.candidates import shown_candidates
from eval.types import ItemIndex

CLASSES = ["tench", "wild dog", "cat", "cat", "red moss", "bark", "kite", "ox"]


def authors_choices(labels: list[str], classes: list[str], n_labels: int) -> list[list[str]]:
    """main_results/main.py in other words: shuffle the data, then draw for one item after the other; by item."""
    random.seed(1234)
    data = list(enumerate(labels))
    random.shuffle(data)
    choices = {}
    for number, label in data:
        rest = set(classes)
        rest.discard(label)
        shown = [label, *random.sample(sorted(rest), n_labels - 1)]
        random.shuffle(shown)
        choices[number] = shown
    return [choices[number] for number in range(len(labels))]


@pytest.mark.parametrize("count", [2, 5, None])
@pytest.mark.parametrize("items", [3, 60])
def test_the_stream_draws_what_an_uninterrupted_run_of_the_authors_draws(count, items):
    labels = [CLASSES[(3 * number) % len(CLASSES)] for number in range(items)]
    config = ProtocolConfig(task="closed_world", classes="x", candidates=count, candidate_draw="stream")
    expected = authors_choices(labels, CLASSES, count or len(set(CLASSES)))
    for number, label in enumerate(labels):
        shown = shown_candidates(config, CLASSES, label, f"item/{number}", ItemIndex(number, items))
        assert [CLASSES[index] for index in shown] == expected[number]
        assert shown.count(3) == 0  # of two classes of one name, the first


def test_the_stream_of_a_large_class_list_is_the_authors_too():
    """random.sample takes another way there."""
    classes = [f"class {number}" for number in range(1000)]
    labels = [classes[7 * number] for number in range(40)]
    config = ProtocolConfig(task="closed_world", classes="x", candidates=20, candidate_draw="stream")
    for number, expected in enumerate(authors_choices(labels, classes, 20)):
        shown = shown_candidates(config, classes, labels[number], "", ItemIndex(number, 40))
        assert [classes[index] for index in shown] == expected


def test_a_fixed_order_is_the_lists_whoever_draws():
    for draw in ("item", "stream"):
        config = ProtocolConfig(task="closed_world", classes="x", candidates=4, order="fixed", candidate_draw=draw)
        shown = shown_candidates(config, CLASSES, "ox", "a", ItemIndex(0, 5))
        assert shown == sorted(shown)


def test_items_without_a_place_have_no_stream():
    config = ProtocolConfig(task="closed_world", classes="x", candidates=4, candidate_draw="stream")
    with pytest.raises(RunError, match="run again, or set it to item"):
        shown_candidates(config, CLASSES, "ox", "a", None)


@pytest.fixture
def classes(tmp_path):
    file = tmp_path / "pets.json"
    file.write_text(json.dumps(["tench", "wild dog", "cat", "red moss"]))
    return str(file)


@pytest.mark.slow
def test_stored_scores_are_judged_by_the_stream_without_the_data(write_config, tmp_path, classes, capsys):
    protocol = {"task": "class_likelihood", "classes": classes, "candidate_draw": "stream"}
    config = str(write_config(protocol=protocol))
    main(["--config", config])
    folder = EvalDir(tmp_path / "answers")
    records = read_records(folder).predictions.values()
    assert {record.item_index for record in records} == {ItemIndex(number, 15) for number in range(15)}
    main(["--config", config, "--report-only", "--set", "protocol.candidates=2"])
    assert json.loads(folder.report("json").read_text())["accuracy"]["n"] == 15
    older = {"task": "class_likelihood", "classes": classes, "candidates": 2}
    main(["--config", str(write_config(protocol=older, output=str(tmp_path / "older")))])
    assert "item_index" not in EvalDir(tmp_path / "older").predictions(0).read_text()
    stream = ["--set", "protocol.candidate_draw=stream"]
    with pytest.raises(SystemExit):
        main(["--config", str(write_config(protocol=older, output=str(tmp_path / "older"))), "--report-only", *stream])
    assert "do not store their items' index in the data set" in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_asked_under_the_stream_survives_a_cut(write_config, tmp_path, classes):
    protocol = {"task": "closed_world", "classes": classes, "candidates": 2, "candidate_draw": "stream"}
    config = str(write_config(protocol=protocol))
    main(["--config", config])
    folder = EvalDir(tmp_path / "answers")
    whole = {key: (line.prompt_hash, line.answer) for key, line in read_records(folder).predictions.items()}
    file = folder.predictions(0)
    file.write_bytes(file.read_bytes()[: len(file.read_bytes()) // 3])
    main(["--config", config])
    assert {key: (line.prompt_hash, line.answer) for key, line in read_records(folder).predictions.items()} == whole
    item = str(write_config(protocol=protocol | {"candidate_draw": "item"}, output=str(tmp_path / "item")))
    main(["--config", item])
    other = read_records(EvalDir(tmp_path / "item")).predictions
    assert any(other[key].prompt_hash != asked for key, (asked, _) in whole.items())
