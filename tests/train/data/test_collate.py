"""Samples to batches."""

from dataclasses import replace

import pytest
import torch

from configs.errors import DataError
from data_prep.sample import Sample, Turn
from train.chat.conversation import IGNORE_INDEX
from train.data.collate import NoTargetTokensError, collate
from train.data.order import PADDING
from train.data.sources import SourceSet
from train.loss import local_denominator, set_loss_weights
from train.plan import make_plan


@pytest.fixture(scope="module")
def plan(training_setup):
    return make_plan(training_setup.config("batches"), 2, "cpu")


def test_positions_number_all_sources_in_a_row(plan):
    sources = plan.sources
    assert len(sources) == sum(sources.sizes)
    assert sources.locate(sources.sizes[0] - 1) == (0, sources.sizes[0] - 1)
    assert sources.locate(sources.sizes[0]) == (1, 0)
    assert sources.sample(sources.sizes[0]).id.startswith("talk/")


def test_missing_shards_name_the_command_that_makes_them(training_setup):
    with pytest.raises(DataError, match=r"python -m data_prep\.build"):
        SourceSet(training_setup.root / "shards", ["nowhere"])


def test_a_batch_is_padded_on_the_right_and_its_pixels_are_uint8(plan):
    examples = plan.training_batches().examples
    rows = [examples[0], examples[len(examples.sources) - 1], examples[PADDING]]
    batch = collate(rows, plan.family)
    assert batch.attention_mask.sum(dim=1).tolist() == [len(row.input_ids) for row in rows]
    assert batch.labels[batch.attention_mask == 0].eq(IGNORE_INDEX).all()
    assert batch.images.tensors["pixels"].dtype == torch.uint8
    assert batch.sources.tolist() == [0, 1, -1]
    image_id = plan.family.image_token_id
    assert (batch.input_ids == image_id).sum() == len(batch.images) * plan.family.image_tokens()


def test_padding_weighs_nothing(plan):
    batch = collate([plan.training_batches().examples[PADDING]], plan.family)
    set_loss_weights(batch, "token", 5, 2.0)
    assert local_denominator([batch], "token") == 0
    assert batch.weights.eq(0).all()


def sample(question: str, answer: str, image: bytes | None = None) -> Sample:
    return Sample(id="x/1", turns=(Turn("human", question), Turn("gpt", answer)), image=image)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (sample("<image>\nWhat?", "a"), "sample x/1: 1 <image> placeholders, 0 images"),
        (sample("What?", "a", b"jpeg"), "sample x/1: 0 <image> placeholders, 1 images"),
        (sample("<image>\nWhat?", "a", b"no image at all"), "sample x/1"),
    ],
)
def test_a_sample_that_cannot_be_trained_on_is_named(plan, bad, complaint):
    with pytest.raises(DataError, match=complaint):
        plan.example_builder.build(bad, 0)


def test_a_conversation_without_an_answer_is_named_as_that(plan):
    unanswered = replace(sample("What?", "b"), turns=(Turn("human", "What?"),))
    with pytest.raises(NoTargetTokensError, match="x/1: the conversation has no answer"):
        plan.example_builder.build(unanswered, 0)


def test_a_sample_without_a_supervised_token_is_an_error_or_by_config_kept_without_weight(plan):
    long = sample("a " * 400, "b")
    with pytest.raises(NoTargetTokensError, match=r"x/1: no token is supervised within chat\.max_length 256"):
        plan.example_builder.build(long, 0)
    tolerant = replace(plan.example_builder, chat=replace(plan.example_builder.chat, no_target_tokens="drop"))
    assert local_denominator([collate([tolerant.build(long, 0)], plan.family)], "sample") == 0


def test_worker_processes_change_nothing(plan):
    batches = plan.training_batches()

    def first(workers: int) -> list[torch.Tensor]:
        steps = batches.steps(3, 1, workers)
        return [batch.input_ids for batch in next(steps) + next(steps)]

    for alone, helped in zip(first(0), first(2), strict=True):
        assert torch.equal(alone, helped)


@pytest.mark.parametrize("reduction", ["token", "sample", "micro_batch"])
def test_the_weights_of_a_whole_batch_sum_to_the_scale(plan, reduction):
    examples = plan.training_batches().examples
    batches = [collate([examples[i] for i in range(start, start + 3)], plan.family) for start in (0, 90, 120)]
    denominator = local_denominator(batches, reduction)
    for batch in batches:
        set_loss_weights(batch, reduction, denominator, 6.0)
    assert float(sum(batch.weights.double().sum() for batch in batches)) == pytest.approx(6.0, rel=1e-6)
