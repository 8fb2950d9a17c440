"""A dry run of each preset on folders of published models without weights: parameters, memory, tokens and samples."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from configs.load import load_config
from configs.run import RunConfig
from data_prep import build
from data_prep.byte_size import size
from tests.train.families.published_models import MODELS, write_published
from train.memory_plan import choose, with_choice
from train.models.registry import family_of
from train.plan import make_plan
from train.tools.preview import preview

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
LARGEST = (4000, 3000)
SHAPES = ((500, 375), (333, 500), (64, 64), LARGEST)  # width, height
SPLIT = "imagenet_llava_mix_13b"  # its weights are split over the ranks (ZeRO 3)
TARGET = "a water lily"
IMAGE_TOKENS = {"llava": 576, "llava_next": 36 * 49 + 576, "llava_onevision": 70 * 94 + 729, "blip-2": 32,
                "instructblip": 32, "qwen2_5_vl": 24 * 32, "qwen3_vl": 24 * 32, "smolvlm": 13 * 64}  # fmt: skip
"""Of an image of `LARGEST`, by hand."""
PRESETS = {
    "imagenet_blip2": "blip2-opt-2.7b",
    "flowers102_blip2": "blip2-opt-6.7b",
    "stanford_cars_blip2": "blip2-opt-2.7b",
    "caltech101_blip2": "blip2-opt-2.7b",
    "flowers102_instructblip": "instructblip-vicuna-7b",
    "imagenet_llava_next_vicuna": "llava-v1.6-vicuna-7b-hf",
    "imagenet_llava_next_mistral": "llava-v1.6-mistral-7b-hf",
    "imagenet_llava_onevision": "llava-onevision-qwen2-7b-ov-hf",
    "imagenet_qwen2_5_vl": "Qwen2.5-VL-7B-Instruct",
    "imagenet_qwen3_vl": "Qwen3-VL-8B-Instruct",
    "flowers102_smolvlm2": "SmolVLM2-256M-Video-Instruct",
    "imagenet_projector": "llava-1.5-7b-hf",
    "imagenet_llava_mix_13b": "llava-1.5-13b-hf",
}


def _mlp(rows: int, hidden: int, columns: int) -> int:
    return rows * hidden + hidden + hidden * columns + columns


def _q_former(language: int, *, reads: bool) -> int:
    """32 queries, 12 layers (attention to the image in every second), the tower's norm; `reads`: a text input, too."""
    width, image, norm = 768, 1408, 2 * 768
    attention = 4 * (width * width + width) + norm
    across = 2 * (width * width + width) + 2 * (image * width + width) + norm
    mlp = _mlp(width, 4 * width, width) + norm
    text = 12 * mlp + (30523 + 512) * width if reads else 0
    layers = 12 * (attention + mlp) + 6 * across + norm
    return 32 * width + layers + text + width * language + language + 2 * image


def _merger(config: dict[str, Any]) -> int:
    vision, wide = config["vision_config"], 4 * config["vision_config"]["hidden_size"]
    if "fullatt_block_indexes" in vision:
        return _mlp(wide, wide, vision["out_hidden_size"]) + vision["hidden_size"]
    one = _mlp(wide, wide, vision["out_hidden_size"])
    return one + 2 * vision["hidden_size"] + len(vision["deepstack_visual_indexes"]) * (one + 2 * wide)


def projector_parameters(config: dict[str, Any]) -> int:
    """Trained in mode `projector`, counted by hand from the sizes in config.json."""
    kind, vision = config["model_type"], config["vision_config"]
    language = config.get("text_config", config).get("hidden_size", 4096)
    if kind in ("blip-2", "instructblip"):
        return _q_former(language, reads=kind == "instructblip")
    if kind.startswith("qwen"):
        return _merger(config)
    if kind == "smolvlm":
        return vision["hidden_size"] * config["scale_factor"] ** 2 * language
    newline = language if config.get("use_image_newline_parameter") else 0
    return _mlp(vision["hidden_size"], language, language) + newline


@dataclass
class Published:
    """Shards of a few photographs of usual sizes, and folders of models."""

    root: Path
    folders: dict[str, Path] = field(default_factory=dict)

    def folder(self, model: str) -> Path:
        if model not in self.folders:
            self.folders[model] = write_published(model, self.root / model)
        return self.folders[model]

    def dry_run(self, preset: str, model: str, *overrides: str) -> str:
        sources = [f"data.sources.{name}={{reader: llava, path: {self.root}/mixed.json}}" for name in ("mixed", "held")]
        sets = [f"model.base={self.folder(model)}", f"data.shards={self.root}/shards", *sources, *overrides,
                "train.sources=[mixed]", "train.heldout=[held]", "train.passes_per_epoch={mixed: 1700}"]  # fmt: skip
        config, _ = load_config(RunConfig, ROOT / f"configs/{preset}.yaml", sets)
        plan = make_plan(config, 8, "cuda", count=True)
        return preview(with_choice(plan, choose(plan, 80.0)), samples=4)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("published")
    records = []
    for number, shape in enumerate(SHAPES):
        Image.new("L", shape, number * 40).save(root / f"{number}.jpg")
        turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": TARGET}]
        records.append({"id": f"{number}", "image": f"{number}.jpg", "conversations": turns})
    (root / "mixed.json").write_text(json.dumps(records))
    source = f"{{reader: llava, path: {root}/mixed.json}}"
    (root / "build.yaml").write_text(
        f"name: build\ndata: {{shards: {root}/shards, sources: {{mixed: {source}, held: {source}}}}}\n"
        "model: {base: none}\ntrain: {sources: [mixed]}\n"
    )
    build.main(["--config", str(root / "build.yaml")])
    return Published(root)


def row(text: str, part: str) -> tuple[int, int]:
    """Parameters of a part, and how many of them train."""
    total, trained = re.search(rf"^{part} +([\d,]+) +([\d,]+)", text, re.MULTILINE).groups()
    return int(total.replace(",", "")), int(trained.replace(",", ""))


@pytest.mark.parametrize(("preset", "model"), PRESETS.items())
def test_a_preset_runs_dry_on_the_published_config_alone(published, preset, model):
    text = published.dry_run(preset, model)
    config = MODELS[model]["config.json"]
    assert f"weights           none in {published.folder(model)}, so not checked; a training needs them" in text
    assert row(text, "all")[0] == MODELS[model]["parameters"]
    assert row(text, "all")[1] == row(text, "projector")[1] == projector_parameters(config)
    ranks = 8 if preset == SPLIT else 1
    assert f"weights {size(round(2 * MODELS[model]['parameters'] / ranks))}" in text  # bf16
    assert "skipped " not in text, "chat.max_length has room for every image"
    counts = {int(number): int(tokens) for number, tokens in re.findall(r"(?m)^mixed/(\d+): (\d+) tokens", text)}
    around = counts[SHAPES.index(LARGEST)] - IMAGE_TOKENS[config["model_type"]]
    assert 0 < around < 120, "text in bytes, and what is between tiles"
    assert re.findall("⟦([^⟧]*)⟧", text)[0].strip().startswith(TARGET)


@pytest.mark.parametrize("model", sorted(MODELS.keys() - set(PRESETS.values())))
def test_other_sizes_of_a_presets_model_have_as_many_parameters_as_published(published, model):
    family = family_of(published.folder(model))
    with torch.device("meta"):
        whole = family.model_class.from_config(family.config)
    sizes = dict.fromkeys((*family.parts, "other"), 0)
    for name, parameter in whole.named_parameters():
        sizes[family.part_of(name)] += parameter.numel()
    assert sum(sizes.values()) == MODELS[model]["parameters"]
    assert (sizes["projector"], sizes["other"]) == (projector_parameters(MODELS[model]["config.json"]), 0)
