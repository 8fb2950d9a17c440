"""SmolVLM2 and Idefics3: tiles of any shape and the text around them, what trains, settings, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SmolVLMConfig
from transformers.models.smolvlm.image_processing_pil_smolvlm import (
    SmolVLMImageProcessorPil,
    get_resize_output_image_size,
)

from configs.errors import ConfigError
from configs.load import load_config
from configs.run import RunConfig
from tests.train.families.cases import CASES, IDEFICS3
from tests.train.families.conftest import items, joined
from tests.train.families.test_gradients import assert_same, gradients, our_loss
from train.data.collate import collate, pack
from train.models.loss_module import LossModule
from train.models.registry import family_of
from train.models.smolvlm import SmolVlmFamily
from train.models.split_images import whole_tiles, with_longest_edge

ROOT = Path(__file__).resolve().parents[3]
SIZES = ((40, 24), (24, 70), (64, 64), (33, 31), (1, 1), (1, 150), (900, 2), (500, 400), (97, 96))  # width, height


@pytest.fixture
def smolvlm(family_of_case):
    return family_of_case("smolvlm")


@pytest.fixture
def folder(smolvlm, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(smolvlm.folder, tmp_path / "model")


def changed(file: Path, **values: object) -> None:
    settings = json.loads(file.read_text()) | values
    file.write_text(json.dumps({name: value for name, value in settings.items() if value is not ...}))


def image(size: tuple[int, int]) -> Image.Image:
    data = np.random.default_rng(sum(size)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(data)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"do_image_splitting": False}, {"do_resize": False}, {"size": {"longest_edge": 50}, "resample": 3}]
)
def test_tiles_and_token_ids_of_any_shape_are_transformers(smolvlm, folder, settings):
    changed(folder / "preprocessor_config.json", **settings)
    family, processor = family_of(folder), CASES["smolvlm"].processor(folder)
    for size in SIZES:
        if settings.get("do_resize") is False and max(size) > 200:
            continue  # hundreds of tiles
        expected = processor(text="<image>", images=image(size), return_tensors="pt")
        ours = family.batch_images([family.image_processor()(image(size))])
        pixels = family.normalized(ours.tensors["pixels"], torch.float32)
        torch.testing.assert_close(pixels, expected["pixel_values"][0], atol=1e-6, rtol=0)
        assert list(family.image_ids(size[::-1])) == expected["input_ids"][0].tolist()
        assert family.image_tokens(size[::-1]) == 4 * len(pixels)
    assert (family.fixed_image_tokens == 4) == (settings == {"do_image_splitting": False})


@pytest.mark.parametrize("longest", [2048, 1536, 6000])
def test_sizes_at_published_resolutions_are_transformers(longest):
    processor = SmolVLMImageProcessorPil(size={"longest_edge": longest}, max_image_size={"longest_edge": 512})
    sizes = []
    processor.resize = lambda image, size, **_: (
        sizes.append(size) or np.broadcast_to(np.uint8(0), (3, *_fitting(image, size)))
    )
    for size in ((640, 480), (480, 641), (333, 500), (5000, 17), (3, 1001), (2048, 2048), (4097, 4096)):
        start = np.broadcast_to(np.uint8(0), (3, *size))
        first = processor.resize(start, {"longest_edge": longest})
        whole = processor.resize_for_vision_encoder(first, 512)
        ours = whole_tiles(with_longest_edge(size, longest), 512)
        assert (first.shape[1:], whole.shape[1:]) == (with_longest_edge(size, longest), ours)


def _fitting(image: np.ndarray, size: object) -> tuple[int, int]:
    if isinstance(size, dict):
        return get_resize_output_image_size(image, size["longest_edge"])
    return size.height, size.width


@pytest.mark.slow
def test_idefics3_has_transformers_inputs_loss_and_gradients(family_of_case):
    trained = family_of_case("idefics3")
    chosen = items(IDEFICS3)
    expected = [trained.expected(item) for item in chosen]
    examples = trained.examples(chosen)
    assert [(example.input_ids, example.supervised) for example in examples] == expected
    plan = trained.plan("model.mode=full")
    loaded = trained.ours(plan)
    theirs = trained.theirs(plan, loaded.model)
    loss = theirs(**joined([trained.inputs(item) for item in chosen], [on for _, on in expected])).loss
    wanted = gradients(theirs, loss)
    module = LossModule(loaded.model, plan.family).eval()
    for join in (collate, pack):
        ours = our_loss(module, join(examples, plan.family))
        assert float(ours.detach()) == pytest.approx(float(loss.detach()), rel=1e-5)
        assert_same(gradients(loaded.model, ours), wanted)


@pytest.mark.slow
def test_the_projector_is_the_connector(smolvlm):
    model = smolvlm.ours(smolvlm.plan()).model
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {"model.connector.modality_projection.proj.weight"}


def test_an_answer_ends_with_its_end_token_and_text_around_the_image_is_no_target(smolvlm):
    example = smolvlm.examples(items(smolvlm.case)[:1])[0]
    tokenizer = smolvlm.plan().example_builder.renderer.tokenizer
    targets = [token for token, on in zip(example.input_ids, example.supervised, strict=True) if on]
    assert tokenizer.decode(targets) == " red blue<end_of_utterance>"
    text = tokenizer.decode(example.input_ids)
    assert text.startswith("<|im_start|>User:<fake_token_around_image><row_1_col_1><image><image><image><image><fake")
    assert "<row_2_col_3><image><image><image><image>\n\n<fake_token_around_image><global-img>" in text


def test_published_sizes_give_64_tokens_a_tile():
    vision = {"image_size": 512, "patch_size": 16}
    family = SmolVlmFamily(SmolVLMConfig(vision_config=vision, scale_factor=4))
    assert family._tile_tokens == 64
    assert with_longest_edge((480, 640), 2048) == whole_tiles((1536, 2048), 512) == (1536, 2048)


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("preprocessor_config.json", {"max_image_size": {"longest_edge": 64}}, "is 64 px, the vision tower takes 32"),
        ("preprocessor_config.json", {"max_image_size": None}, "max_image_size is None; supported form"),
        ("preprocessor_config.json", {"size": {"height": 64, "width": 64}}, "size is .*supported form: ..longest_edge"),
        ("preprocessor_config.json", {"size": {"longest_edge": 0}}, "size is .*supported form: ..longest_edge"),
        ("preprocessor_config.json", {"do_image_splitting": "yes"}, "do_image_splitting is 'yes'; it must be true or"),
        ("preprocessor_config.json", {"image_processor_type": "CLIPImageProcessor"}, "takes SmolVLMImageProcessor"),
        ("config.json", {"scale_factor": 3}, "makes 4 patches a side .*cannot be joined by scale_factor 3"),
        ("config.json", {"vision_config": {"image_size": [32, 32]}}, r"image_size \[32, 32\], .* not whole numbers"),
        ("config.json", {"text_config": ...}, "no text_config"),
        ("config.json", {"model_type": "idefics2"}, "of type 'idefics2'; supported: .*smolvlm, idefics3"),
    ],
)
def test_what_is_not_supported_is_refused_by_name_with_what_is(folder, file, values, message):
    changed(folder / file, **values)
    with pytest.raises(ConfigError, match=message):
        family_of(folder).image_processor()


def test_modes_and_sizes_of_others_and_a_missing_processor_or_token_are_refused(folder):
    with pytest.raises(ConfigError, match=r"image_mode pad is LLaVA-1.5's; .* set image_mode to export"):
        family_of(folder).image_processor("pad")
    with pytest.raises(ConfigError, match=r"image_size is 48 and SmolVLM2's tower takes 32"):
        family_of(folder).image_processor(size=48)
    with pytest.raises(ConfigError, match=r"min_pixels and max_pixels are for Qwen's models"):
        family_of(folder).with_pixels(None, 300)
    with pytest.raises(ConfigError, match=r"depends on the image's size"):
        family_of(folder).image_tokens()
    family = family_of(folder)
    family._tokenizer.fake_image_token = "<around>"
    with pytest.raises(ConfigError, match=r"tokenizer has no token <around>, which SmolVLM2 writes around an image"):
        family.image_ids((40, 24))
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").unlink()
    with pytest.raises(ConfigError, match=r"has no preprocessor_config.json, which says how images are cut into tiles"):
        family_of(folder).image_processor()


def test_the_preset_trains_the_connector_by_the_folders_template():
    config, _ = load_config(RunConfig, ROOT / "configs/flowers102_smolvlm2.yaml")
    assert config.model.base == "HuggingFaceTB/SmolVLM2-256M-Video-Instruct"
    assert (config.chat.template, config.chat.image_mode, config.model.mode) == ("folder", "export", "projector")
    assert config.chat.max_length > 17 * (64 + 3)
