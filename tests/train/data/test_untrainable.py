"""Records with `</s>` or `<s>` in a text, or a question longer than the limit: found together, before training."""

import io
import json

import pytest
from PIL import Image

from configs.errors import DataError
from data_prep import build
from data_prep.shards import ShardSet
from tests.overrides import overrides_of
from train.plan import make_plan
from train.tools.preview import preview

pytestmark = pytest.mark.slow

BAD = {
    2: ("What does </s> do?", "It ends a text."),
    4: ("What is this?", "A tag <s> struck out </s>."),
    5: ("word " * 400, "Too long to be answered."),
    7: ("And <s>?", "It begins one."),
}


@pytest.fixture
def mix(training_setup, tmp_path, capsys):
    """The `--set` values of a training whose source `records` is ten records of a JSON file, four of which are bad."""
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 10, 10)).save(picture, "PNG")
    (tmp_path / "a.png").write_bytes(picture.getvalue())
    records = []
    for number in range(10):
        question, answer = BAD.get(number, ("What is this?", "a red square"))
        turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
        records.append({"id": number, "image": "a.png", "conversations": turns})
    (tmp_path / "talk.json").write_text(json.dumps(records))
    settings = {
        "data__shards": tmp_path / "shards",
        "train__sources": "[records]",
        "train__heldout": "[]",
        "data__sources__records__reader": "llava",
        "data__sources__records__path": tmp_path / "talk.json",
        "data__sources__records__options": "{}",
    }
    build.main([*training_setup.arguments("mix", **settings), "--sources", "records"])
    assert "3 x <s> or </s> in a text, refused by training or skipped" in capsys.readouterr().out
    return overrides_of(settings)


def test_the_build_lists_the_texts_with_special_tokens_in_the_manifest(mix, tmp_path):
    ((_, note),) = ShardSet.open(tmp_path / "shards/records").manifest.notes.items()
    assert (note.count, note.ids) == (3, ("0000002", "0000004", "0000007"))


@pytest.mark.parametrize("template", ["llava", "hf"])
def test_training_names_what_the_build_noted_and_the_dry_run_names_all_at_once(mix, training_setup, template):
    with pytest.raises(DataError, match=r"^3 samples cannot be trained on: .*train\.unreadable: skip$") as caught:
        make_plan(training_setup.config("mix", *mix, f"chat.template={template}"), 1, "cpu")
    assert "1 x </s> in a text, which would begin or end a conversation (records/0000002)" in str(caught.value)
    assert "2 x <s> in a text, which would begin or end a conversation (records/0000004, records/0000007)" in str(
        caught.value
    )
    with pytest.raises(DataError, match=r"^4 samples cannot be trained on: .*records/0000005"):
        make_plan(training_setup.config("mix", *mix, f"chat.template={template}"), 1, "cpu", count=True)
    skipping = make_plan(training_setup.config("mix", *mix, "train.unreadable=skip"), 1, "cpu")
    text = preview(skipping)
    assert "skipped           1 x no token is supervised within chat.max_length 256" in text
    with pytest.raises(
        DataError, match=r"^4 samples cannot be trained on: .*records/0000005"
    ):  # counted by the dry run
        make_plan(training_setup.config("mix", *mix), 1, "cpu")


@pytest.mark.parametrize("batching", ["padded", "packed"])
def test_steps_over_such_records_skip_them_with_weight_0_and_name_each(mix, training_setup, batching):
    more = [f"train.batching={batching}", "train.unreadable=skip", "train.last_batch=pad"]
    plan = make_plan(training_setup.config("mix", *mix, *more), 1, "cpu")
    steps = plan.training_batches().steps(0, 0, 0)
    seen, skipped = [], {}
    for _ in range(plan.length.steps_per_epoch):
        for batch in next(steps):
            seen += [sample_id for sample_id in batch.ids if sample_id]
            skipped |= {sample.id: sample.reason for sample in batch.unreadable}
    assert sorted(skipped) == [f"records/{number:07d}" for number in BAD]
    assert sorted(seen) == [f"records/{number:07d}" for number in range(10) if number not in BAD]
    assert "no token is supervised" in skipped["records/0000005"]


def test_a_training_that_stops_at_such_a_record_says_how_to_pass_it_over(mix, training_setup):
    plan = make_plan(training_setup.config("mix", *mix, "train.unreadable=skip"), 1, "cpu")
    examples = plan.training_batches().examples
    examples.unreadable = "stop"
    for number in BAD:
        with pytest.raises(DataError, match=rf"records/{number:07d}.*train\.unreadable: skip"):
            examples[int(plan.sources.starts[0]) + number]
