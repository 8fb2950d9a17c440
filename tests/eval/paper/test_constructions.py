"""Questions that were built stand next to the numbers of Appendix C.1."""

import json

import pytest

from configs.errors import RunError
from eval.paper.published import paper_numbers
from eval.paper.results import collect

RECORD = {
    "settings": {"model": "some-model", "source": "pets", "questions_per_class": 5},
    "statistics": {"questions": 342, "most_images_of_a_class": 3, "most_repeats_of_a_question": 15},
}


def test_a_construction_fills_the_rows_of_appendix_c1_and_says_who_wrote_the_questions(tmp_path):
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / "construction.json").write_text(json.dumps(RECORD))
    found = collect([tmp_path], paper_numbers()).rows
    values = {row.rpartition("/")[2]: results[0].value for row, results in found.items()}
    assert values == {
        "questions": 342, "questions_written_for_a_class": 5, "images_of_a_class": 3, "repeats_of_a_question": 15,
    }  # fmt: skip
    assert found["appendixC.1/ImageWikiQA/questions"][0].protocol == "questions by some-model, images of pets"
    assert set(found) <= set(paper_numbers())


def test_a_damaged_record_is_an_error_with_the_next_step(tmp_path):
    (tmp_path / "construction.json").write_text("{}")
    with pytest.raises(RunError, match=r"construction\.json is damaged .* run data_prep\.imagewikiqa again"):
        collect([tmp_path], paper_numbers())
