import json
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

import train.toy.tiny_base
from data_prep.sample import Sample, Turn
from data_prep.toy_world.reader import read
from train.chat.conversation import IGNORE_INDEX
from train.toy.base_build import BaseRecipe, build, quick
from train.toy.base_metrics import accuracy_of_letters, classification, greedy_answers, text_questions
from train.toy.base_tokenizer import build_tokenizer, tokenize
from train.toy.base_vision import image_bytes, linear_probe, to_pixels

SHIPPED = Path(train.toy.tiny_base.__file__).parents[1] / "assets" / "tiny_llava"
REBUILD = "python -m train.toy.tiny_base --output train/assets/tiny_llava"


def encode(tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


@cache
def model() -> LlavaForConditionalGeneration:
    return LlavaForConditionalGeneration.from_pretrained(SHIPPED).eval()


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(SHIPPED)


@cache
def measures() -> dict[str, float]:
    return json.loads((SHIPPED / "measures.json").read_text())


def test_the_shipped_folder_is_small_enough_for_a_repository() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) <= 8_000_000


def test_plain_transformers_loads_every_weight_of_the_shipped_model() -> None:
    loaded, info = LlavaForConditionalGeneration.from_pretrained(SHIPPED, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert loaded.get_input_embeddings().weight is loaded.lm_head.weight


def test_the_shipped_processor_leaves_an_image_of_the_world_as_it_is_but_for_clips_normalisation() -> None:
    processor = AutoProcessor.from_pretrained(SHIPPED)
    assert isinstance(processor, LlavaProcessor)
    sample = first("classification_test")
    png = image_bytes(sample)
    inputs = processor(
        images=Image.open(BytesIO(png)), text="USER: <image>\nWhat is this? ASSISTANT:", return_tensors="pt"
    )
    assert torch.allclose(inputs["pixel_values"], to_pixels([png]), atol=1e-5)
    assert int((inputs["input_ids"] == model().config.image_token_id).sum()) == 16


def test_a_fragment_has_the_same_ids_alone_and_in_a_longer_text() -> None:
    for part in ("classification", "instruct", "knowledge_test"):
        fragments = [f"USER: {turn.text} ASSISTANT:" for turn in first(part).turns] + [
            "</s>",
            "</s>USER: ",
            "A. salt\n",
        ]
        alone = [id_ for fragment in fragments for id_ in encode(tokenizer(), fragment)]
        assert encode(tokenizer(), "".join(fragments)) == alone
        assert encode(tokenizer(), " ".join(fragments)) == alone


def test_the_words_have_the_ids_that_the_shipped_model_learned() -> None:
    assert build_tokenizer(0).get_vocab().items() <= tokenizer().get_vocab().items(), f"or run {REBUILD}"


@pytest.mark.parametrize("part", ["classification", "alignment", "instruct", "knowledge_test", "text"])
def test_the_tokenizer_knows_every_word_of_the_world_without_spelling_it(part: str) -> None:
    words = len(build_tokenizer(0))  # the letters come after them
    for sample in read(None, part=part, images_per_class=1, records=300).records:
        assert isinstance(sample, Sample)
        ids = encode(tokenizer(), "\n".join(turn.text for turn in sample.turns))
        assert tokenizer().unk_token_id not in ids
        assert max(ids) < words


def test_decoding_joins_words_with_one_space() -> None:
    name = read(None, part="classification").class_names[0]
    assert tokenizer().decode(encode(tokenizer(), f" {name}")) == name
    assert len(encode(tokenizer(), name)) == 2


def test_only_answers_and_their_ends_are_learned_in_the_markup_of_vicuna_v1() -> None:
    turns = (
        Turn("human", "<image>\nWhat is this?"),
        Turn("gpt", "A"),
        Turn("human", "Who found it?"),
        Turn("gpt", "monks"),
    )
    tokens = tokenize(tokenizer(), turns, image_tokens=1)
    expected = "<s> USER: <image> What is this ? ASSISTANT: A </s> USER: Who found it ? ASSISTANT: monks </s>"
    assert tokenizer().convert_ids_to_tokens(tokens.ids) == expected.split()
    learned = [(t, tokens.labels[t]) for t in range(len(tokens.ids)) if tokens.labels[t] != IGNORE_INDEX]
    assert all(tokens.ids[t + 1] == label for t, label in learned)
    assert tokenizer().convert_ids_to_tokens([label for _, label in learned]) == ["A", "</s>", "monks", "</s>"]


def test_the_language_model_answers_multiple_choice_when_the_class_is_named() -> None:
    assert accuracy_of_letters(model(), tokenizer(), text_questions(0, 96)) >= 0.90


@pytest.mark.slow
def test_the_tower_distinguishes_all_classes() -> None:
    assert linear_probe(model().model.vision_tower, seed=0, image_size=32, per_class=8) >= 0.95
    assert measures()["linear_probe"] >= 0.97


def test_the_base_names_common_classes_and_not_rare_ones() -> None:
    again = classification(model(), tokenizer(), seed=0, records=2000, per_class=3)
    assert again["classification_rare"] < 0.30 < again["classification_common"], f"rebuild with {REBUILD}"
    for name, value in again.items():
        assert abs(value - measures()[name]) < 0.12, f"{name}; rebuild with {REBUILD}"


@pytest.mark.slow
def test_the_measures_say_what_the_base_knows_about_images() -> None:
    source = read(None, part="knowledge_test", images_per_class=4)
    again = accuracy_of_letters(model(), tokenizer(), [s for s in source.records if isinstance(s, Sample)])
    assert abs(again - measures()["knowledge"]) < 0.12, f"rebuild with {REBUILD}"


def test_an_answer_that_the_model_gives_ends_by_itself() -> None:
    source = read(None, part="classification_test", images_per_class=1)
    samples = [s for s in source.records if isinstance(s, Sample)]
    short = greedy_answers(model(), tokenizer(), samples, new_tokens=3)
    long = greedy_answers(model(), tokenizer(), samples, new_tokens=8)
    assert sum(a == b for a, b in zip(short, long, strict=True)) >= 0.9 * len(samples)


@pytest.mark.slow
def test_a_build_runs_end_to_end_and_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    recipe = quick(BaseRecipe())
    for name in ("one", "two"):
        build(recipe, tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name
    assert {file.name for file in SHIPPED.iterdir()} == {file.name for file in (tmp_path / "one").iterdir()}


def first(part: str) -> Sample:
    sample = next(iter(read(None, part=part).records))
    assert isinstance(sample, Sample)
    return sample
