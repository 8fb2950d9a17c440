"""Linear heads on frozen encoders: the features are transformers' own, and the results find the paper's rows."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Blip2VisionModel, CLIPModel, CLIPProcessor

from configs.errors import ConfigError
from data_prep.images import decode_rgb
from eval.models.image_encoders import load_image_encoder, own_processor
from eval.paper.published import paper_numbers
from eval.paper.rows import rows_of_probe
from eval.probing import main as probe
from train.toy.clip_recipe import ClipRecipe
from train.toy.clip_training import save
from train.toy.tiny_clip_parts import build_model, build_tokenizer
from train.toy.tiny_families import write_tiny_family

RATE = {"value": 0.9, "low": 0.8, "high": 1.0, "n": 10}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    recipe = ClipRecipe(vision_hidden=32, vision_layers=1, text_hidden=32, text_layers=1, shared=16)
    torch.manual_seed(3)
    tokenizer = build_tokenizer(["cat"], recipe)
    folder = tmp_path_factory.mktemp("clip") / "tiny"
    save(build_model(tokenizer, recipe), tokenizer, recipe, folder)
    return folder


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    return write_tiny_family(tmp_path_factory.mktemp("blip") / "tiny", "blip-2", ["cat"])


def normalized(vectors):
    return vectors / vectors.norm(dim=-1, keepdim=True)


def test_clips_feature_is_its_projected_image_embedding(clip, picture):
    encoder = load_image_encoder(clip, "fp32", "cpu")
    ours = encoder.embed([encoder.pixels(picture(n)) for n in range(3)])
    model, processor = CLIPModel.from_pretrained(clip).eval(), CLIPProcessor.from_pretrained(clip)
    inputs = processor(text=["x"], images=[decode_rgb(picture(n)) for n in range(3)], return_tensors="pt")
    with torch.inference_mode():
        theirs = model(**inputs).image_embeds
    assert encoder.feature == "image_embeds"
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_eva_is_the_vision_half_of_a_blip_2_folder_with_its_weights(blip, picture):
    encoder = load_image_encoder(blip, "fp32", "cpu")
    ours = encoder.embed([encoder.pixels(picture(n)) for n in range(3)])
    from transformers import Blip2ForConditionalGeneration

    whole = Blip2ForConditionalGeneration.from_pretrained(blip, dtype=torch.float32).eval()
    pixels = own_processor(blip)(images=[decode_rgb(picture(n)) for n in range(3)], return_tensors="pt")
    with torch.inference_mode():
        theirs = whole.vision_model(pixel_values=pixels["pixel_values"]).pooler_output
    assert isinstance(encoder.model, Blip2VisionModel)
    assert torch.allclose(ours, normalized(theirs), atol=1e-5)
    assert not torch.allclose(ours[0], ours[1], atol=1e-3)


def test_a_clip_is_probed_from_config_to_rate(write_config, clip, tmp_path, capsys):
    protocol = {"task": "zero_shot", "classes": "flowers102"}
    config = write_config(model=str(clip), protocol=protocol)
    probe(["--config", str(config), "--train", "pets"])
    result = json.loads((tmp_path / "answers" / "encoder" / "probe.json").read_text())
    assert list(result["token_positions"]) == ["image_embeds"]
    place = result["token_positions"]["image_embeds"]
    assert place["accuracy"]["n"] == 15
    assert sum(right for right, _ in place["correct_by_label"].values()) == place["accuracy"]["count"]
    assert (result["train"], result["val"], result["epochs"]) == (14, 1, 300)
    assert "image_embeds" in capsys.readouterr().out
    probe(["--config", str(config), "--train", "pets"])  # from the stored features
    assert (
        json.loads((tmp_path / "answers" / "encoder" / "probe.json").read_text())["token_positions"]["image_embeds"][
            "accuracy"
        ]
        == place["accuracy"]
    )


def test_a_blip_is_probed_in_both_halves_side_by_side(write_config, blip, tmp_path):
    config = write_config(model=str(blip))
    probe(["--config", str(config), "--train", "pets", "--epochs", "3", "--encoder"])
    result = json.loads((tmp_path / "answers" / "encoder" / "probe.json").read_text())
    assert list(result["token_positions"]) == ["vision_pooled"]
    assert not (tmp_path / "answers" / "probe.json").exists()


def test_a_llava_has_no_separate_encoder_to_probe(write_config, capsys):
    with pytest.raises(SystemExit):
        probe(["--config", str(write_config()), "--train", "pets", "--encoder"])
    assert "encoders: clip, blip-2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "place", "rows"),
    [
        (
            "openai/clip-vit-large-patch14-336",
            "image_embeds",
            {"table3/finetuned/CLIP-L/linear/Flowers102", "table4/linear/CLIP-L/Flowers102"},
        ),
        ("Salesforce/blip2-opt-2.7b", "vision_pooled", {"table3/finetuned/EVA-G/linear/Flowers102"}),
        (
            "open_clip:EVA01-g-14-plus/merged2b_s11b_b114k",
            "image_embeds",
            {"table3/finetuned/EVA-G/linear/Flowers102"},
        ),
    ],
)
def test_a_head_is_shown_with_the_papers_linear_rows(model, place, rows):
    result = {
        "model": model,
        "source": "flowers102_test",
        "paper": None,
        "token_positions": {place: {"accuracy": RATE}},
    }
    assert set(rows_of_probe(result, paper_numbers())) == rows


def test_zero_shot_is_shown_with_table_1_and_9():
    from eval.paper.rows import rows_of_report

    report = {"model": "openai/clip-vit-large-patch14-336", "source": "imagenet_val", "label": "model", "paper": None}
    protocol = {"task": "zero_shot", "candidates": None}
    assert rows_of_report(report | {"protocol": protocol}, paper_numbers()) == ["table1/closed_world/CLIP-L/ImageNet"]
    twenty = report | {"protocol": protocol | {"candidates": 20}}
    assert rows_of_report(twenty, paper_numbers()) == ["table9/candidates_20/CLIP-L/ImageNet"]
    eva = report | {"model": "open_clip:EVA01-g-14-plus/merged2b_s11b_b114k", "protocol": protocol}
    assert rows_of_report(eva, paper_numbers()) == ["table1/closed_world/EVA-G/ImageNet"]


def test_an_encoder_with_missing_weights_is_refused_and_not_drawn_at_random(clip, tmp_path):
    weights = load_file(clip / "model.safetensors")
    for file in clip.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"1 weight is missing \(visual_projection\.weight\)"):
        load_image_encoder(tmp_path, "fp32", "cpu")
