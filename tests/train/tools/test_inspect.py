"""Samples as the model reads them."""

from dataclasses import replace

import pytest

from data_prep import inspect as inspect_shards
from data_prep.sample import Sample, Turn
from data_prep.shards import ShardSet
from train.tools import inspect, postmortem
from train.tools.sample_text import describe, load_example_builder

BEGIN, END = "⟦", "⟧"


@pytest.fixture(scope="module")
def builder(training_setup):
    return load_example_builder(training_setup.config("inspect"))


def shown(training_setup, capsys, *arguments: str) -> str:
    inspect.main(["--config", str(training_setup.config_file("inspect")), *arguments])
    return capsys.readouterr().out


def test_the_samples_are_those_of_data_prep_inspect(training_setup, capsys):
    ours = shown(training_setup, capsys, "--source", "pictures", "--samples", "4", "--seed", "7")
    inspect_shards.main([str(training_setup.root / "shards" / "pictures"), "--samples", "4", "--seed", "7"])
    theirs = capsys.readouterr().out
    heads = [line for line in ours.splitlines() if line.startswith("[")]
    assert len(heads) == 4
    assert heads == [line for line in theirs.splitlines() if line.startswith("[")]


@pytest.mark.parametrize("tool", [inspect, postmortem])
def test_a_negative_number_of_samples_is_refused(tool, capsys):
    with pytest.raises(SystemExit) as stopped:
        tool.main(["--samples", "-1"])
    assert stopped.value.code == 2
    assert "--samples: -1 is below 0" in capsys.readouterr().err


def test_the_counts_are_those_of_training_and_the_answer_is_marked(training_setup, builder, capsys):
    text = shown(training_setup, capsys, "--source", "pictures", "--number", "0")
    sample = ShardSet.open(training_setup.root / "shards" / "pictures").sample(0)
    example = builder.build(sample, 0)
    assert f"{len(example.input_ids)} tokens, {sum(example.supervised)} supervised" in text
    assert f"{builder.family.image_tokens()} of the image" in text
    assert f"<image x{builder.family.image_tokens()}>" in text
    assert text.count(BEGIN) == text.count(END) == 1
    green = text.partition(BEGIN)[2].partition(END)[0]
    assert green.replace("</s>", "").split(), "something is supervised"
    assert sample.turns[0].text.splitlines()[-1].split()[0] not in green


def test_without_a_source_all_that_are_trained_on_are_shown(training_setup, capsys):
    text = shown(training_setup, capsys, "--samples", "1")
    assert [line.partition(":")[0] for line in text.splitlines() if " of " in line and line[0] != " "] == [
        "pictures",
        "talk",
    ]


def test_packed_batches_do_not_make_it_count_every_token(training_setup, capsys, monkeypatch):
    monkeypatch.setattr("train.plan.token_counts", lambda *arguments: pytest.fail("all tokens were counted"))
    assert "supervised" in shown(training_setup, capsys, "--samples", "1", "--set", "train.batching=packed")


def sample(question: str, answer: str) -> Sample:
    return Sample(id="x/1", turns=(Turn("human", question), Turn("gpt", answer)))


def test_a_cut_and_a_sample_that_teaches_nothing_are_said(builder):
    text = describe(sample("a " * 400, "b"), builder, image=False)
    assert "256 tokens, 0 supervised (0%), cut at chat.max_length 256: " in text
    assert "nothing is supervised (chat.no_target_tokens: error)" in text


def test_a_sample_that_cannot_be_rendered_is_shown_with_its_reason(builder):
    assert "cannot be trained on: 1 <image> placeholders, 0 images" in describe(
        sample("<image>\nWhat?", "a"), builder, image=False
    )
    tight = replace(builder, chat=replace(builder.chat, max_length=8))
    assert "max_length 8 cuts through the image" in describe(sample("<image>\nWhat?", "a"), tight, image=True)


def test_an_unknown_source_is_a_mistake_that_names_the_known_ones(training_setup, capsys):
    with pytest.raises(SystemExit) as stop:
        shown(training_setup, capsys, "--source", "pictured")
    assert stop.value.code == 2
    assert "--source pictured: the sources of this config are pictures, talk" in capsys.readouterr().err
