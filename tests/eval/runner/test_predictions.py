"""Predictions on disk: what a kill leaves, what counts twice, what is refused."""

import pytest

from configs.errors import RunError
from configs.eval_dir import EvalDir
from data_prep.shard_index import id_hash
from eval.runner.batching import selection_key
from eval.runner.predictions import (
    PredictionWriter,
    Records,
    being_written,
    from_line,
    read_records,
    select_records,
    to_line,
    unreadable_id,
)
from eval.types import FailedItem, Prediction
from tests.eval.stored_answers import stored_answer


def prediction(name: str, answer: str = "tench") -> Prediction:
    return stored_answer(name, answer, seconds=0.1)


@pytest.mark.parametrize("record", [prediction("a", 'line\nend, "quotes", ünïcode'), FailedItem("b", "no\nimage")])
def test_a_record_is_one_line_and_comes_back_equal(record):
    assert to_line(record).count("\n") == 1
    assert from_line(to_line(record)) == record


def test_a_torn_last_line_is_ignored_and_then_overwritten(tmp_path):
    folder = EvalDir(tmp_path)
    path = folder.predictions(0)
    path.write_text(to_line(prediction("a")) + to_line(prediction("b"))[:20])
    assert set(read_records(folder).predictions) == {"a"}
    with PredictionWriter(path) as writer:
        writer.write([prediction("b"), prediction("c")])
    assert set(read_records(folder).predictions) == {"a", "b", "c"}
    assert path.read_text().count("\n") == 3


def test_a_line_torn_inside_a_letter_is_ignored_too(tmp_path):
    data = to_line(prediction("ü", "ü")).encode()
    EvalDir(tmp_path).predictions(0).write_bytes(data + data[: data.index("ü".encode()) + 1])
    assert set(read_records(EvalDir(tmp_path)).predictions) == {"ü"}


def test_of_two_answers_to_one_item_the_first_counts(tmp_path):
    folder = EvalDir(tmp_path)
    folder.predictions(0).write_text(to_line(prediction("a", "first")))
    folder.predictions(1).write_text(to_line(prediction("a", "second")))
    assert read_records(folder).predictions["a"].answer == "first"


def test_a_failure_is_forgotten_once_there_is_an_answer(tmp_path):
    folder = EvalDir(tmp_path)
    lines = [FailedItem("a", "busy"), FailedItem(unreadable_id(id_hash("b")), "unreadable"), FailedItem("c", "damaged")]
    lines += [prediction("a"), prediction("b")]
    folder.predictions(0).write_text("".join(map(to_line, lines)))
    records = read_records(folder)
    assert set(records.predictions) == {"a", "b"}
    assert list(records.failures) == ["c"]


def test_a_damaged_line_is_refused_with_file_and_number(tmp_path):
    EvalDir(tmp_path).predictions(3).write_text(to_line(prediction("a")) + "{}\n")
    with pytest.raises(RunError, match=r"predictions-00003.jsonl, line 2"):
        read_records(EvalDir(tmp_path))


def test_two_writers_of_one_file_are_refused(tmp_path):
    path = EvalDir(tmp_path).predictions(0)
    with PredictionWriter(path), pytest.raises(RunError, match="another process"):
        PredictionWriter(path)
    with PredictionWriter(path) as writer:  # and once the first has ended, all is well
        writer.write([prediction("a")])


def test_an_item_that_fails_unread_and_then_read_fails_once(tmp_path):
    folder = EvalDir(tmp_path)
    for worker, failure in enumerate(
        [FailedItem(unreadable_id(id_hash("a")), "no shard"), FailedItem("a", "no image")]
    ):
        with PredictionWriter(folder.predictions(worker)) as writer:
            writer.write([failure])
    assert set(read_records(folder).failures) == {"a"}


def test_no_answer_of_a_larger_limit_replaces_a_failed_item():
    names = sorted((f"item/{number}" for number in range(20)), key=lambda name: selection_key(id_hash(name)))
    failed, unread, *answered = names
    failures = {
        failed: FailedItem(failed, "no image"),
        unreadable_id(id_hash(unread)): FailedItem(unreadable_id(id_hash(unread)), "x"),
    }
    records = Records({name: prediction(name) for name in answered}, failures)
    chosen = select_records(records, 5)
    assert list(chosen.predictions) == answered[:3]
    assert chosen.failures == failures
    assert set(select_records(records, None).predictions) == set(answered)


@pytest.mark.parametrize("blank", ["\n", "\n\n  \n", "\r\n"])
def test_blank_lines_at_the_end_of_a_file_are_no_answers(tmp_path, blank):
    folder = EvalDir(tmp_path)
    with PredictionWriter(folder.predictions(0)) as writer:
        writer.write([FailedItem("a", "why")])
    with folder.predictions(0).open("a") as file:
        file.write(blank)
    assert list(read_records(folder).failures) == ["a"]


def test_a_file_that_is_open_for_writing_is_known(tmp_path):
    folder = EvalDir(tmp_path)
    assert not being_written(folder)
    with PredictionWriter(folder.predictions(0)):
        assert being_written(folder)
    assert not being_written(folder)
