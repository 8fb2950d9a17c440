"""A CLIP's tower before a LLaVA's words: every part comes from where it should, and plain transformers loads it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoProcessor,
    CLIPModel,
    LlamaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    Qwen2Config,
)

from data_prep.sample import Turn
from train.chat.conversation import IMAGE_INDEX
from train.chat.tokenizer import load_tokenizer
from train.models.registry import family_of
from train.toy import language_model
from train.toy.byte_level import byte_level_bpe
from train.toy.clip_recipe import ClipRecipe
from train.toy.clip_training import save as save_clip
from train.toy.tiny_clip_parts import build_model, build_tokenizer
from train.toy.tiny_llava import main

SIZES = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 300, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] + '\n' + message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
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


LANGUAGES = {  # grouped queries, byte-level BPE; as SmolLM2, as Qwen2.5, as Mistral
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**SIZES | {"vocab_size": 420}),
    "mistral": MistralConfig(**SIZES),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LANGUAGES)
def test_any_language_model_gets_an_image_token_and_keeps_its_tokenizer_and_template(clip, tmp_path, kind):
    torch.manual_seed(1)
    model, tokenizer = AutoModelForCausalLM.from_config(LANGUAGES[kind]), byte_level_bpe(["What is this a dog"], 300)
    tokenizer.pad_token = None
    tokenizer.chat_template = None if kind == "mistral" else CHAT
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "language")
    main(["--clip", str(clip), "--language", str(tmp_path / "language"), "--output", str(tmp_path / "made")])
    made, info = LlavaForConditionalGeneration.from_pretrained(tmp_path / "made", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    words = made.get_input_embeddings().weight
    rows = model.get_input_embeddings().weight
    image = made.config.image_token_id
    assert torch.equal(words[:image], rows[:image]) and len(words) == max(len(rows), image + 1)
    assert (made.lm_head.weight is words) == (kind == "llama")
    loaded = load_tokenizer(tmp_path / "made")
    text = "What is this? 1 dog<|im_end|>"
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert (loaded.pad_token, loaded.convert_tokens_to_ids("<image>")) == ("<|im_end|>", image)
    family = family_of(tmp_path / "made")
    style = family.prompt_style("family")
    asked = (Turn("human", "<image>\nWhat is this?"),)
    ours = family.renderer(loaded, style.template, style.system_prompt).render_question(asked)
    processor = AutoProcessor.from_pretrained(tmp_path / "made")
    parts = [{"type": "image"}, {"type": "text", "text": "What is this?"}]
    theirs = processor.apply_chat_template(
        [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False
    )
    shown = [image if token == IMAGE_INDEX else token for token in ours]
    assert style.template == "folder" and loaded.decode(shown) == theirs
    inputs = processor(images=Image.new("RGB", (30, 20)), text=theirs, return_tensors="pt")
    with torch.inference_mode():
        assert torch.isfinite(made(**inputs).logits).all()


def test_a_gguf_file_needs_its_package_and_other_types_are_named(clip, tmp_path, capsys, monkeypatch):
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt" / "config.json").write_text('{"model_type": "opt"}')
    (tmp_path / "files").mkdir()
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / "files" / name).write_bytes(b"GGUF")
    monkeypatch.setattr(language_model, "find_spec", lambda _: None)
    refused = {
        "opt": "contains a opt; give a llava",
        "files": "has 2 GGUF files; name one: a.gguf, b.gguf",
        "files/a.gguf": "pip install 'vlm-classify[gguf]' is needed",
        "files/c.gguf": "is not there",
    }
    for place, words in refused.items():
        with pytest.raises(SystemExit):
            main(["--clip", str(clip), "--language", str(tmp_path / place), "--output", str(tmp_path / "x")])
        assert words in capsys.readouterr().err


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
