"""What a family trains on equals what transformers' processor makes of the same conversations."""

import pytest
import torch
from transformers import AutoModelForImageTextToText

from tests.train.families.conftest import items

pytestmark = pytest.mark.slow


def test_token_ids_and_targets_are_the_processors_with_each_answer_and_its_end(trained):
    chosen = items(trained.case)
    for item, example in zip(chosen, trained.examples(chosen), strict=True):
        ids, targets = trained.expected(item)
        assert example.input_ids == ids
        assert example.supervised == targets
        assert sum(targets) > len(item.exchanges), "the answers and not their ends alone"


def test_images_are_the_processors(trained):
    family = trained.plan().family
    chosen = [item for item in items(trained.case) if item.image is not None]
    examples = trained.examples(chosen)
    model = AutoModelForImageTextToText.from_pretrained(trained.folder, dtype=torch.float32).eval()
    for item, example in zip(chosen, examples, strict=True):
        inputs = trained.inputs(item)
        batch = family.batch_images([example.image])
        if trained.case.pixels is not None:
            pixels = family.normalized(batch.tensors["pixels"], torch.float32)
            expected = inputs[trained.case.pixels]
            torch.testing.assert_close(pixels, expected.reshape(pixels.shape), atol=1e-6, rtol=0)
        with torch.no_grad():
            features = family.encode_images(model, batch, torch.float32)
        assert len(features) == (inputs["input_ids"] == family.image_token_id).sum()


def test_a_batch_keeps_the_order_of_images_and_texts(trained):
    family = trained.plan().family
    chosen = items(trained.case)
    examples = trained.examples(chosen)
    model = AutoModelForImageTextToText.from_pretrained(trained.folder, dtype=torch.float32).eval()
    images = [example.image for example in examples if example.image is not None]
    with torch.no_grad():
        together = family.encode_images(model, family.batch_images(images), torch.float32)
        alone = [family.encode_images(model, family.batch_images([image]), torch.float32) for image in images]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(alone[0][0], alone[1][0], atol=1e-4), "images differ"
