"""The files of an export: what the model was trained with is what its folder says."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlavaForConditionalGeneration

from configs.model import ChatConfig
from data_prep.sample import Turn
from train.chat.conversation import IMAGE_INDEX
from train.chat.render import ChatRenderer
from train.exported_files import write_end_token, write_processor, write_text_files
from train.models.pixels import folder_pixels
from train.models.registry import trainable_family_of

TINY = Path("train/assets/tiny_llava")
NESTED, FLAT = "processor_config.json", "preprocessor_config.json"


@pytest.mark.parametrize("mode", ["pad", "crop"])
@pytest.mark.parametrize(
    "files",
    [
        {},
        {FLAT: {"do_normalize": False, "size": 40, "crop_size": 40, "resample": 2}},
        {FLAT: {"image_processor_type": "CLIPImageProcessorFast"}, NESTED: {"image_token": "<image>"}},
        {NESTED: {"image_processor": {"image_processor_type": "BlipImageProcessor", "size": {"shortest_edge": 50}}}},
        {FLAT: {"image_mean": [0, 0, 0]}, NESTED: {"image_processor": {"image_mean": [0.5, 0.5, 0.5]}}},
    ],
    ids=str,
)
def test_an_exports_processor_makes_the_pixels_of_the_training(files, mode, tmp_path):
    base, output = tmp_path / "base", tmp_path / "export"
    base.mkdir()
    output.mkdir()
    for name, content in files.items():
        (base / name).write_text(json.dumps(content))
    family = trainable_family_of(TINY)
    side = family.config.vision_config.image_size
    write_processor(family, base, output, mode)
    exported = folder_pixels(output, side, "export")
    assert exported.mode == mode
    source = {**files, **({} if files else {FLAT: {}})}
    assert {file.name for file in output.iterdir()} == set(source)
    if files:  # training reads the base with its mode; the size of the base's processor is not its tower's here
        for content in files.values():
            content.get("image_processor", content).update({"size": side, "crop_size": side, "do_center_crop": True})
        for name, content in files.items():
            (base / name).write_text(json.dumps(content))
    trained = folder_pixels(base, side, mode)
    assert (trained.normalization, trained.resample) == (exported.normalization, exported.resample)


@pytest.fixture
def other_end(tmp_path):
    """The shipped model with `<|end|>` as its end token: in the tokenizer, and in the generation settings."""
    base = Path(shutil.copytree(TINY, tmp_path / "base"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (base / name).read_text().replace('"<pad>"', '"<|end|>"')
        (base / name).write_text(text.replace('"eos_token": "</s>"', '"eos_token": "<|end|>"'))
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": 3, "pad_token_id": 3}))
    return base


def generated(folder, limit=24):
    """New tokens of plain transformers for a question about a grey image."""
    model, tokenizer = (
        LlavaForConditionalGeneration.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    renderer = ChatRenderer(tokenizer)
    ids = renderer.render_question((Turn("human", "<image>\nWhat type of object is in this photo?"),))
    ids = [token for i in ids for token in ([4] * 16 if i == IMAGE_INDEX else [i])]
    pixels = torch.zeros(1, 3, 32, 32)
    made = model.generate(input_ids=torch.tensor([ids]), pixel_values=pixels, max_new_tokens=limit, do_sample=False)
    return made[0, len(ids) :].tolist(), tokenizer


def test_an_export_stops_at_the_end_token_of_its_training(other_end, tmp_path):
    assert len(generated(other_end)[0]) == 24, "the base would not stop"
    output = Path(shutil.copytree(other_end, tmp_path / "export"))
    write_text_files(trainable_family_of(other_end), other_end, output, ChatConfig())
    tokens, tokenizer = generated(output)
    assert tokens[-1] == 2
    assert len(tokens) < 24
    assert tokenizer.eos_token == "</s>"
    assert json.loads((output / "generation_config.json").read_text())["eos_token_id"] == [2, 3]


def test_an_end_token_that_is_the_trainings_own_changes_no_file(tmp_path):
    output = tmp_path / "export"
    output.mkdir()
    write_text_files(trainable_family_of(TINY), TINY, output, ChatConfig())
    for name in ("generation_config.json", "tokenizer_config.json", "tokenizer.json"):
        assert (output / name).read_bytes() == (TINY / name).read_bytes()


@pytest.mark.parametrize(
    ("stated", "written"), [(None, 2), (7, [2, 7]), ([7, 9], [2, 7, 9]), ([9, 2], [9, 2]), (2, 2)], ids=str
)
def test_generation_stops_at_the_trained_end_and_at_those_named_before(stated, written, tmp_path):
    if stated is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": stated}))
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps({"eos_token": {"content": "<|im_end|>", "lstrip": False}})
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "X"}))
    write_end_token(tmp_path, 2, "</s>")
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == written
    special = json.loads((tmp_path / "special_tokens_map.json").read_text())
    assert special == {"eos_token": {"content": "</s>", "lstrip": False}}
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["eos_token"] == "</s>"
