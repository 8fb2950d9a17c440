"""A CLIP's tower before a LLaVA's words: every part comes from where it should, and plain transformers loads it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, CLIPModel, LlavaForConditionalGeneration

from train.toy.tiny_clip import save as save_clip
from train.toy.tiny_clip_parts import ClipRecipe, build_model, build_tokenizer
from train.toy.tiny_llava import main

WORDS = Path(__file__).resolve().parents[3] / "train" / "assets" / "tiny_llava"


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """An untrained CLIP of 4 x 4 patches, 24 x 24 pixels."""
    folder = tmp_path_factory.mktemp("clips") / "clip"
    recipe = ClipRecipe(image_size=24, patch_size=6, vision_hidden=64, vision_layers=3)
    tokenizer = build_tokenizer(["tench"], recipe)
    torch.manual_seed(3)
    save_clip(build_model(tokenizer, recipe), tokenizer, recipe, folder)
    return folder


def joined(clip: Path, output: Path, *arguments: str) -> Path:
    main(["--clip", str(clip), "--language", str(WORDS), "--output", str(output), *arguments])
    return output


def test_tower_and_words_are_theirs_and_the_projector_is_new(clip, tmp_path):
    model, info = LlavaForConditionalGeneration.from_pretrained(joined(clip, tmp_path / "a"), output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    words, tower = LlavaForConditionalGeneration.from_pretrained(WORDS), CLIPModel.from_pretrained(clip).vision_model
    for ours, theirs in ((model.model.language_model, words.model.language_model), (model.model.vision_tower, tower)):
        expected = theirs.state_dict()
        assert expected.keys() == ours.state_dict().keys()
        assert all(torch.equal(value, expected[key]) for key, value in ours.state_dict().items())
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.model.multi_modal_projector.linear_1.weight.shape == (words.config.text_config.hidden_size, 64)


def test_its_processor_makes_as_many_places_as_its_tower_has_patches(clip, tmp_path):
    folder = joined(clip, tmp_path / "a")
    model, processor = LlavaForConditionalGeneration.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    image = Image.fromarray(np.full((40, 30, 3), 90, np.uint8))
    inputs = processor(images=image, text="USER: <image>\nWhat is this? ASSISTANT:", return_tensors="pt")
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == model.config.image_seq_length == 16
    assert inputs["pixel_values"].shape == (1, 3, 24, 24)
    with torch.inference_mode():
        assert torch.isfinite(model(**inputs).logits).all()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(clip, tmp_path):
    first, second = (joined(clip, tmp_path / name) for name in "ab")
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes(), file.name
    other = joined(clip, tmp_path / "c", "--seed", "1")
    assert (other / "model.safetensors").read_bytes() != (first / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--clip", str(WORDS), "--language", str(WORDS)],
            "contains a llava, not a clip; python -m train.toy.tiny_clip",
        ),
        (["--clip", "nowhere", "--language", str(WORDS)], "nowhere contains no model, not a clip"),
    ],
)
def test_another_model_is_refused_in_a_line(tmp_path, capsys, arguments, words):
    with pytest.raises(SystemExit):
        main([*arguments, "--output", str(tmp_path / "x")])
    assert words in capsys.readouterr().err
