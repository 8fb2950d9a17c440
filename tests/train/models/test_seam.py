"""The family seam: only a family's own file knows its modules and its images, and a made-up family trains."""

import ast
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from configs.errors import ConfigError
from data_prep.sample import Turn
from train.data.collate import collate, pack
from train.data.lengths import LengthSettings
from train.loss import local_denominator, set_loss_weights
from train.models.images import ImageBatch, ImageInput
from train.models.llava import LlavaFamily
from train.models.loading import load_model
from train.models.loss_module import LossModule
from train.models.registry import FAMILIES, family_class, family_of
from train.models.square_images import PIXELS
from train.models.types import PARTS
from train.plan import make_plan

ROOT = Path(__file__).resolve().parents[3]
OWNERS = {"train/models/types.py", *(line.partition(":")[0].replace(".", "/") + ".py" for line in FAMILIES.values())}
READS = {
    *("image_token_id", "image_token_index", "text_config", "vision_config", "qformer_config"),
    *("lm_head", "language_model", "multi_modal_projector", "vision_tower", "vision_model", "qformer"),
    *("get_image_features", "get_output_embeddings", "get_input_embeddings", "get_text_config"),
}
"""Attributes of a model or its config that only a family may read."""
ALLOWED = {
    "eval/models/clip.py": "a CLIP, which has no language model",
    "eval/models/sentence_encoder.py": "a CLIP's text tower by itself",
    "eval/models/image_encoders.py": "image encoders by themselves",
    "eval/probes/requirements.py": "the size of an image encoder's features",
    "eval/paper/plan.py": "the paper's tables are about models of certain families",
    "eval/benchmarks/class_scoring_speed.py": "a language model by itself",
    "eval/benchmarks/confident_toy_model.py": "a language model by itself",
    "eval/benchmarks/generation_speed.py": "a language model by itself",
    "train/benchmarks/lora_layer.py": "a random model of one layer",
    "train/benchmarks/spikes_live.py": "sharpens a random model before it is a base",
    "train/toy/": "assembles the models",
}
FILES = [
    file
    for folder in ("train", "eval", "launch", "configs", "data_prep")
    for file in sorted((ROOT / folder).rglob("*.py"))
    if (name := str(file.relative_to(ROOT))) not in OWNERS and not name.startswith(tuple(ALLOWED))
]


def of_a_family(node: ast.expr) -> bool:
    """Whether the expression is `family` or `….family`, whose attributes anyone may read."""
    return (isinstance(node, ast.Name) and node.id == "family") or (
        isinstance(node, ast.Attribute) and node.attr == "family"
    )


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_nothing_but_a_family_reads_its_modules_or_asks_which_family_it_is(file):
    names = {*FAMILIES, *(family_class(model_type).name for model_type in FAMILIES)}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in READS:
            assert of_a_family(node.value), f"{file.name}:{node.lineno} reads .{node.attr}: ask the family"
        if isinstance(node, ast.Compare):
            compared = {part.value for part in (node.left, *node.comparators) if isinstance(part, ast.Constant)}
            assert not compared & names, f"{file.name}:{node.lineno} asks which family it is"


@pytest.mark.parametrize("name", ALLOWED)
def test_the_list_of_exceptions_names_what_there_is(name):
    assert (ROOT / name).exists()


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_line_of_the_registry_leads_to_a_family_of_that_type(model_type):
    family = family_class(model_type)
    assert family.model_type == model_type
    assert set(family.parts) == set(PARTS)
    assert family.chat_templates


def test_an_unsupported_type_is_refused_with_the_list(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(
        ConfigError, match=r"of type 'gpt2'; supported: llava, llava_next, .*blip-2, instructblip, qwen"
    ):
        family_of(tmp_path)


class ShapedFamily(LlavaFamily):
    """Half of the image tokens where an image is wider than tall: the count depends on the size, as with tiles."""

    @property
    def fixed_image_tokens(self):
        return None

    def image_tokens(self, size=None):
        if size is None:
            raise ConfigError("depends on the size")
        return super().fixed_image_tokens // (2 if size[1] > size[0] else 1)

    def image_processor(self, mode="export", size=None, *, fast=False):
        square = super().image_processor(mode, size, fast=fast)
        return lambda image, question="": ImageInput(
            {**square(image).arrays, "tokens": np.array(self.image_tokens((image.height, image.width)))}
        )

    def batch_images(self, images):
        tokens = torch.tensor([int(image.arrays["tokens"]) for image in images])
        return ImageBatch({**super().batch_images(images).tensors, "tokens": tokens}, len(images))

    def encode_images(self, model, images, dtype):
        features = self.image_features(model, self.normalized(images.tensors[PIXELS], dtype))
        return torch.cat([own[:count] for own, count in zip(features, images.tensors["tokens"].tolist(), strict=True)])

    def dummy_images(self):
        return ImageBatch({**super().dummy_images().tensors, "tokens": torch.ones(1, dtype=torch.long)}, 1)


@pytest.fixture(scope="module")
def plan(training_setup):
    return make_plan(training_setup.config("seam"), 1, "cpu")


@pytest.fixture(scope="module")
def builder(plan):
    family = ShapedFamily(plan.family.config, plan.family.folder)
    return replace(plan.example_builder, family=family, image_processor=family.image_processor("pad"))


def sample_of(plan, size: tuple[int, int] | None):
    """A sample with an image of `size` (width, height), or without one."""
    if size is None:
        turns = (Turn("human", "What is it"), Turn("gpt", "a red one"))
        return replace(plan.sources.sample(0), image=None, turns=turns)
    data = BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(data, "PNG")
    return replace(plan.sources.sample(0), image=data.getvalue())


def test_tokens_of_an_image_may_depend_on_its_size(plan, builder):
    wide, tall = sample_of(plan, (60, 20)), sample_of(plan, (20, 60))
    lengths = [len(builder.build(sample, 0).input_ids) for sample in (wide, tall)]
    assert lengths[1] - lengths[0] == plan.family.image_tokens() // 2
    assert lengths == [len(builder.tokens(sample, has_image=True).input_ids) for sample in (wide, tall)]


def test_counts_are_kept_by_what_they_depend_on(plan, builder):
    key = builder.family.image_token_key
    assert key != plan.family.image_token_key
    assert LengthSettings.of(plan.folder, plan.config.chat, key) != LengthSettings.of(
        plan.folder, plan.config.chat, plan.family.image_token_key
    )


def test_images_of_different_length_give_the_same_losses_padded_packed_and_alone(plan, builder):
    family = builder.family
    module = LossModule(load_model(str(plan.folder), None, "fp32", "sdpa").model, family).eval()
    examples = [builder.build(sample_of(plan, size), 0) for size in ((60, 20), None, (20, 60), (33, 32))]
    alone = torch.cat([losses(module, collate([example], family)) for example in examples])
    torch.testing.assert_close(losses(module, collate(examples, family)), alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses(module, pack(examples, family)), alone, rtol=1e-5, atol=1e-5)


def losses(module: LossModule, batch) -> torch.Tensor:
    """(C,) of a batch, whose gradient must reach the projector."""
    set_loss_weights(batch, "token", local_denominator([batch], "token"), 1.0)
    loss, by_sample = module(batch)
    module.zero_grad()
    loss.backward()
    projector = [p for name, p in module.model.named_parameters() if module.family.part_of(name) == "projector"]
    assert all(parameter.grad is not None for parameter in projector)
    return by_sample
