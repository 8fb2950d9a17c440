"""The items of a report one by one: which, with which picture, and what is said where there is none."""

import doctest
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from configs.data import DataConfig, SourceConfig
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.shard_dir import ShardDir
from data_prep.page import Page
from data_prep.shards import ShardSet
from data_prep.thumbnails import SIDE, thumbnail
from eval.reports import item_choice, item_gallery
from eval.reports.evaluation import write_report
from eval.reports.item_choice import MOST, SHARES, chosen_items, shares
from eval.runner.evaluation_record import describe_evaluation, write_evaluation
from eval.runner.predictions import PredictionWriter, Records, unreadable_id
from eval.types import FailedItem, Prediction, Score
from tests.eval.stored_answers import stored_answer


@pytest.fixture
def pets(tmp_path, data_section):
    """Two answers and a failed item of the shard set `pets`, and the set."""
    shards = re.search(r"shards: (.+)", data_section)[1]
    source = SourceConfig(reader="image_folder", path=str(Path(shards).parent / "pets"))
    config = EvalConfig(
        name="pets", model="llava-hf/llava-1.5-7b-hf", source="pets",
        data=DataConfig(shards=shards, samples_per_shard=4, sources={"pets": source}),
    )  # fmt: skip
    found = ShardSet.open(Path(shards) / "pets")
    samples = [found.sample(number) for number in (0, 7, 14)]
    folder = EvalDir(tmp_path / "pets")
    write_evaluation(folder, describe_evaluation(config, "export", "a" * 64, found.fingerprint, (3, 15)))
    with PredictionWriter(folder.predictions(0)) as writer:
        writer.write([stored_answer(samples[0].id, samples[0].label_name, samples[0].label_name)])
        writer.write([stored_answer(samples[1].id, "a table", samples[1].label_name)])
        writer.write([FailedItem(unreadable_id(int(found.index["id_hash"][14])), "the model ended")])
    return folder, config, samples


def test_each_item_has_its_own_picture_question_answer_and_reason(pets):
    folder, config, samples = pets
    write_report(folder, config)
    page = folder.report("html").read_text()
    tiles = re.findall(r'<div class="tile .*?</div></div>', page, flags=re.DOTALL)
    assert len(tiles) == 3
    wrong, failed, right = tiles  # wrong ones first
    assert (
        Page("T", [item_gallery.Gallery([item_gallery.Tile(thumbnail(samples[1].image), "", ())], "")])
        .html()
        .split("base64,")[1]
        .split('"')[0]
        in wrong
    )
    for tile, texts in (
        (wrong, ("What type of object", "a table", samples[1].label_name, "wrong:", samples[1].id)),
        (right, (samples[0].id, "right:")),
        (failed, ("the model ended", samples[2].label_name, "What type of object")),
    ):
        assert all(text in tile for text in texts), tile
        assert tile.count("<img") == 1
    assert '<option value="wrong">wrong (1)</option>' in page


def test_pictures_of_other_data_are_not_shown(pets):
    folder, config, _ = pets
    other = EvalDir(folder.root.parent / "other")
    write_evaluation(other, describe_evaluation(config, "export", "a" * 64, "b" * 64, (3, 15)))
    other.predictions(0).write_bytes(folder.predictions(0).read_bytes())
    write_report(other, config)
    page = other.report("html").read_text()
    assert "<img" not in page
    assert "not those that the questions were asked about" in page
    assert "a table" in page


def test_without_shards_the_page_says_so_and_shows_the_answers(pets, tmp_path):
    folder, config, _ = pets
    write_report(folder, replace(config, data=replace(config.data, shards=str(tmp_path / "none"))))
    page = folder.report("html").read_text()
    assert "<img" not in page
    assert "None has a picture here: " in page
    assert str(tmp_path / "none") in page
    assert "a table" in page
    assert not ShardDir(tmp_path / "none").manifest.exists()


def test_pictures_end_at_the_limit_of_bytes_and_the_page_counts_those_that_are_missing(pets, monkeypatch):
    folder, config, samples = pets
    monkeypatch.setattr(item_gallery, "PICTURE_BYTES", len(thumbnail(samples[1].image)))
    write_report(folder, config)
    page = folder.report("html").read_text()
    assert page.count("<img") == 1
    assert "2 of them have no picture here." in page


def test_shards_that_are_not_fetched_are_not_fetched_for_pictures(pets, monkeypatch):
    folder, config, samples = pets
    monkeypatch.setattr(ShardSet, "fetched", lambda shards, number: shards.record(number).id == samples[0].id)
    write_report(folder, config)
    page = folder.report("html").read_text()
    assert page.count("<img") == 1
    assert "2 of them have no picture here: they are behind URLs" in page


def test_a_letter_has_the_text_of_its_option(pets, tmp_path):
    _, config, samples = pets
    folder = EvalDir(tmp_path / "quiz")
    config = replace(config, protocol=replace(config.protocol, task="multiple_choice", show_image=True))
    write_evaluation(folder, describe_evaluation(config, "export", "a" * 64, "b" * 64, (1, 15)))
    item = replace(stored_answer(samples[0].id, "B", "tench"), target="A", choices=("red", "moss"))
    with PredictionWriter(folder.predictions(0)) as writer:
        writer.write([item])
    write_report(folder, config)
    page = folder.report("html").read_text()
    assert "<span>answer:</span> B, moss" in page
    assert "<span>right answer:</span> A, red (tench)" in page


def test_items_are_bounded_wrong_ones_first_and_spread_over_the_classes():
    def scored(outcome: bool | None, number: int) -> tuple[Prediction, Score]:
        item = stored_answer(f"{outcome}/{number}", "x", f"class {number % 50}")
        return item, Score(outcome, None, "")

    many = [scored(value, number) for value in (True, False, None) for number in range(100)]
    failures = {name: FailedItem(name, "broken") for name in map(str, range(30))}
    found = chosen_items(many, Records({}, failures))
    assert [sum(item.outcome == outcome for item in found) for outcome in SHARES] == list(SHARES.values())
    assert len(found) == MOST
    assert found[0].outcome == "wrong"
    assert len({item.class_name for item in found[:50]}) == 50
    assert found == chosen_items(many[::-1], Records({}, failures))


def test_a_share_that_is_not_used_goes_to_other_outcomes():
    assert shares({"wrong": 500, "no answer": 0, "failed": 0, "right": 10})["wrong"] == MOST - 10
    assert sum(shares({"wrong": 1, "no answer": 2, "failed": 3, "right": 4}).values()) == 10


def test_a_thumbnail_is_small_and_keeps_its_shape():
    buffer = io.BytesIO()
    Image.new("RGB", (1000, 500), "red").save(buffer, format="PNG")
    small = Image.open(io.BytesIO(thumbnail(buffer.getvalue())))
    assert (small.format, small.size) == ("JPEG", (SIDE, SIDE // 2))


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(item_choice).failed == 0
