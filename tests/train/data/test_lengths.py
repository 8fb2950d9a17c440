"""Token counts: equal to what training makes of a sample, counted once, found again."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from configs.errors import DataError
from data_prep.shards import ShardSet
from train.data import lengths
from train.data.lengths import LengthSettings, token_counts
from train.data.sources import SourceSet
from train.data.untrainable import check_trainable
from train.plan import make_plan


@pytest.fixture
def plan(training_setup, tmp_path):
    """A plan on a copy of the shards, none of them counted."""
    shutil.copytree(training_setup.root / "shards", tmp_path / "shards", ignore=shutil.ignore_patterns("lengths-*"))
    return make_plan(training_setup.config("lengths", f"data.shards={tmp_path / 'shards'}"), 2, "cpu")


def settings_of(plan) -> LengthSettings:
    return LengthSettings.of(plan.folder, plan.config.chat, plan.family.image_token_key)


def refuse():
    raise AssertionError("this should have been read from the file")


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [7, 500])
def test_counts_are_the_lengths_of_the_examples_that_training_reads(plan, chunk, monkeypatch):
    monkeypatch.setattr(lengths, "CHUNK", chunk)  # 7: several processes
    counts = token_counts(plan.sources, settings_of(plan), lambda: plan.example_builder)
    examples = [plan.training_batches().examples[position] for position in range(len(plan.sources))]
    assert counts["tokens"].tolist() == [len(example.input_ids) for example in examples]
    assert counts["supervised"].tolist() == [sum(example.supervised) for example in examples]
    assert len(set(counts["tokens"].tolist())) > 3


def test_they_are_counted_once_and_read_without_a_tokenizer_from_then_on(plan):
    first = token_counts(plan.sources, settings_of(plan), lambda: plan.example_builder)
    assert np.array_equal(token_counts(plan.sources, settings_of(plan), refuse), first)


def test_another_tokenizer_or_chat_setting_or_data_is_counted_again(plan):
    settings = settings_of(plan)
    file = settings.file(plan.sources.sets[0].folder, "data")
    others = [replace(settings, tokenizer="x"), replace(settings, max_length=9), replace(settings, image_tokens=2)]
    names = {file, settings.file(file.parent, "other data"), *(other.file(file.parent, "data") for other in others)}
    assert len(names) == 5


def test_a_damaged_file_is_counted_again(plan):
    first = token_counts(plan.sources, settings_of(plan), lambda: plan.example_builder)
    for shards in plan.sources.sets:
        file = settings_of(plan).file(shards.folder, shards.fingerprint)
        file.write_bytes(file.read_bytes()[:100])
    assert np.array_equal(token_counts(plan.sources, settings_of(plan), lambda: plan.example_builder), first)


def test_no_image_is_read(plan, monkeypatch):
    monkeypatch.setattr(ShardSet, "sample", refuse)
    token_counts(plan.sources, settings_of(plan), lambda: plan.example_builder)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [7, 500])
def test_samples_that_cannot_be_trained_on_are_marked_and_named_all_at_once(plan, chunk, monkeypatch):
    monkeypatch.setattr(lengths, "CHUNK", chunk)
    short = replace(
        plan.example_builder, chat=replace(plan.example_builder.chat, max_length=plan.family.image_tokens() + 2)
    )
    counts = token_counts(plan.sources, settings_of(plan), lambda: short)
    with_image = plan.sources.with_image()
    assert counts["fault"][with_image].all()
    assert set(counts[with_image]["tokens"].tolist()) == {1}
    with pytest.raises(DataError, match=rf"{int(counts['fault'].sum())} samples cannot be trained on: .*pictures/"):
        check_trainable(plan.sources, short, None, counts, "stop")
    kept = counts["fault"] == 0
    assert check_trainable(plan.sources, short, kept, counts, "stop") == []


def test_a_damaged_record_is_named(plan):
    shards = plan.sources.sets[1]
    tar = shards.folder / shards.manifest.shards[0].name
    data = bytearray(tar.read_bytes())
    data[int(shards.index[3]["json_offset"])] = 0
    tar.write_bytes(data)
    sources = SourceSet(shards.folder.parent, plan.config.train.sources)
    with pytest.raises(DataError, match=r"sample 3 of .*talk .*is not a sample record"):
        sources.record(int(sources.starts[1]) + 3)
