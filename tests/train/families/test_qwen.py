"""Qwen2.5-VL and Qwen3-VL: patches, positions, limits, folders as published, and what is refused."""

import json
import shutil
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from configs.errors import ConfigError, DataError
from configs.protocol import ProtocolConfig
from data_prep.sample import Turn
from eval.class_scores.rules import Rule
from eval.models.class_likelihood.misaligned import MisalignedNames
from eval.models.class_likelihood.predictor import TreeNames
from eval.models.generate import TextPredictor
from tests.train.families.conftest import Item, items, picture
from tests.train.families.test_gradients import our_loss
from train.data.collate import pack
from train.exported_files import write_processor
from train.models.batch import attention_arguments
from train.models.layer_parts import compile_layers
from train.models.llava import LlavaFamily
from train.models.loading import load_model
from train.models.loss_module import LossModule
from train.models.registry import family_of
from train.models.target_states import ForwardOptions

pytestmark = pytest.mark.slow

NAMES = ("qwen2_5_vl", "qwen3_vl")
PROJECTORS = {
    "qwen2_5_vl": {"model.visual.merger"},
    "qwen3_vl": {"model.visual.merger", "model.visual.deepstack_merger_list"},
}
SIZES = ((40, 24), (64, 64), (33, 31), (4, 4), (1, 1), (1, 150), (300, 2), (500, 400), (7, 900))  # width, height


@pytest.fixture(params=NAMES)
def qwen(request, family_of_case):
    return family_of_case(request.param)


@pytest.fixture
def folder(qwen, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(qwen.folder, tmp_path / "model")


def changed(file, **values):
    settings = json.loads(file.read_text()) | values
    file.write_text(json.dumps({name: value for name, value in settings.items() if value is not ...}))


def image(size):
    data = np.random.default_rng(sum(size)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(data)


@pytest.mark.parametrize("limits", [(None, None), (None, 400), (2000, 4000)])
def test_patches_grids_and_token_counts_of_any_shape_are_transformers(qwen, limits):
    family = family_of(qwen.folder).with_pixels(*limits)
    processor = Qwen2VLImageProcessorPil.from_pretrained(qwen.folder)
    size = dict(zip(("shortest_edge", "longest_edge"), limits, strict=True))
    size = {name: limit or processor.size[name] for name, limit in size.items()}
    for shape in SIZES:
        expected = processor(images=[image(shape)], size=size, return_tensors="pt")
        ours = family.batch_images([family.image_processor()(image(shape))])
        assert ours.tensors["grid"].tolist() == expected["image_grid_thw"][:, 1:].tolist()
        pixels = family.normalized(ours.tensors["pixels"], torch.float32)
        torch.testing.assert_close(pixels, expected["pixel_values"], atol=1e-6, rtol=0)
        assert family.image_tokens(shape[::-1]) == int(expected["image_grid_thw"].prod()) // 4


@pytest.mark.parametrize("side", ["left", "right"])
def test_positions_are_transformers_padded_and_start_again_in_a_packed_row(qwen, side):
    family = family_of(qwen.folder)
    images = family.batch_images([family.image_processor()(image(shape)) for shape in ((40, 24), (24, 70), (64, 64))])
    grids = images.tensors["grid"]
    rows = [[5, 6, *[family.image_token_id] * (int(grid.prod()) // 4), *[7] * n] for n, grid in enumerate(grids)]
    rows.insert(1, [9] * 4)
    ends = [len(row) for row in rows]
    space = [[0] * (max(ends) - end) for end in ends]
    joined = [(blank + row, [0] * len(blank) + [1] * len(row)) for blank, row in zip(space, rows, strict=True)]
    if side == "right":
        joined = [(row + blank, [1] * len(row) + [0] * len(blank)) for blank, row in zip(space, rows, strict=True)]
    ids, mask = (torch.tensor(part) for part in zip(*joined, strict=True))
    model = AutoModelForImageTextToText.from_config(family.config).model
    whole = torch.cat([torch.ones_like(grids[:, :1]), grids], 1)
    types = (ids == family.image_token_id).int()
    expected, _ = model.get_rope_index(ids, types, image_grid_thw=whole, attention_mask=mask)
    number = torch.arange(len(rows))[:, None]
    assert torch.equal(family.positions(ids, torch.where(mask > 0, number, -1), images), expected)
    packed = family.positions(ids[mask > 0][None], number.expand_as(mask)[mask > 0][None], images)
    assert torch.equal(packed[:, 0], expected[:, mask > 0])


def test_the_projector_is_the_merger_and_those_of_the_added_features(qwen):
    model = qwen.ours(qwen.plan()).model
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {".".join(name.split(".")[:3]) for name in trained} == PROJECTORS[qwen.case.name]


def test_layers_of_the_decoder_alone_are_compiled_and_change_nothing(qwen):
    plan = qwen.plan("model.mode=full")
    loaded = qwen.ours(plan)
    batch = pack(qwen.examples(items(qwen.case)), plan.family)
    expected = our_loss(LossModule(loaded.model, plan.family).eval(), batch)
    module = LossModule(loaded.model, plan.family, ForwardOptions(kernels="compile")).eval()
    layers = [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]
    compiled = [layer for layer in layers if layer._compiled_call_impl is not None]
    assert compiled == list(plan.family.decoder(loaded.model).layers)
    compile_layers(loaded.model, "eager", leave=[loaded.model.model.visual])
    assert float(our_loss(module, batch)) == pytest.approx(float(expected), rel=1e-6)


def test_packed_conversations_are_separated_by_text_positions_where_no_mask_is_given(qwen):
    """What flash attention gets; transformers makes the same of it for the kernel sdpa."""
    plan = qwen.plan()
    model = qwen.ours(plan).model.eval()
    batch = pack(qwen.examples(items(qwen.case)), plan.family)
    with torch.no_grad():
        embedded = plan.family.embed(model, batch.input_ids, batch.images)
        masked, flash = (
            plan.family.decode(model, embedded, batch, attention_arguments(batch, kernel, torch.float32))
            for kernel in ("sdpa", "flash_attention_2")
        )
    torch.testing.assert_close(flash, masked, atol=1e-5, rtol=1e-5)


def test_names_tokenized_alone_have_the_scores_of_the_tree(qwen):
    """In ChatML a name begins a line, so it has the same ids alone; the tree continues behind the image's positions."""
    predictor = TextPredictor(load_model(str(qwen.folder), None, "fp32", "sdpa"), ProtocolConfig())
    turns = (Turn("human", "<image>\nWhat is the photo?"),)
    names = ("red", "blue photo", "blue object", "a b c")
    prompts = [predictor.prompt(turns, picture(number)) for number in (0, 1)]
    tree, alone = (
        kind(predictor, turns, names, False).sums(prompts, [Rule()])[0] for kind in (TreeNames, MisalignedNames)
    )
    assert tree == pytest.approx(alone, abs=1e-4)


def test_a_stretched_image_is_refused_by_name_and_counted_as_one_kind(qwen):
    plan = qwen.plan()
    for size in ((201, 1), (2, 500)):
        data = BytesIO()
        image(size).save(data, "PNG")
        sample = Item([("What is it?", "a")], data.getvalue()).sample(plan.sources.sample(0))
        with pytest.raises(
            DataError, match="more than 200 times the shorter, which the model's image processor"
        ) as told:
            plan.example_builder.tokens(sample, has_image=True)
        kind = str(told.value).removeprefix(f"sample {sample.id}: ").partition(": ")[0]
        assert kind.endswith("refuses")
        assert f"{size[0]} x {size[1]} pixels" in str(told.value)


def test_images_that_chat_max_length_cuts_are_one_kind_with_both_remedies(qwen):
    builder, like = qwen.plan().example_builder, qwen.plan().sources.sample(0)
    tight = replace(builder, chat=replace(builder.chat, max_length=16))
    kinds = set()
    for number in (0, 2):
        sample = Item([("What is it?", "a")], picture(number)).sample(like)
        with pytest.raises(DataError) as told:
            tight.tokens(sample, has_image=True)
        kinds.add(str(told.value).removeprefix(f"sample {sample.id}: ").partition(": ")[0])
    (kind,) = kinds
    assert kind.endswith("cuts through the image's tokens; raise it, or lower chat.max_pixels")


def test_limits_change_lengths_and_their_cache_and_are_in_the_export(qwen, tmp_path):
    usual, small = qwen.plan(), qwen.plan("chat.max_pixels=300", "chat.min_pixels=64")
    lengths = [
        [len(plan.example_builder.build(item.sample(plan.sources.sample(0)), 0).input_ids) for item in items(qwen.case)]
        for plan in (usual, small)
    ]
    assert lengths[1][0] < lengths[0][0]
    assert usual.family.image_token_key != small.family.image_token_key
    shutil.copytree(qwen.folder, tmp_path / "export")
    write_processor(small.family, qwen.folder, tmp_path / "export", "export")
    assert family_of(tmp_path / "export").image_tokens((64, 64)) == small.family.image_tokens((64, 64))
    theirs = Qwen2VLImageProcessorPil.from_pretrained(tmp_path / "export")
    assert dict(theirs.size) == {"shortest_edge": 64, "longest_edge": 300}
    predictor = TextPredictor(
        load_model(str(qwen.folder), None, "fp32", "sdpa"), ProtocolConfig(max_pixels=300, min_pixels=64)
    )
    turns = (Turn("human", "<image>\nWhat is it?"),)
    shown = predictor.prompt(turns, picture(2)).input_ids.count(usual.family.image_token_id)
    assert shown == small.family.image_tokens((64, 64))


def test_wrong_limits_are_refused_with_their_values(qwen):
    with pytest.raises(
        ConfigError, match=r"min_pixels 900 is more than max_pixels 300 .*; set min_pixels to 300 or less"
    ):
        qwen.plan("chat.min_pixels=900", "chat.max_pixels=300")
    with pytest.raises(ConfigError, match=r"max_pixels are for Qwen's models.*LLaVA-1.5.*set both to null"):
        LlavaFamily(None).with_pixels(None, 300)


def test_a_folder_as_published_has_old_names_and_a_flat_config(family_of_case, tmp_path):
    """Weights `visual.…` and `model.layers.…`, `rope_scaling` of type mrope, `min_pixels` in place of `size`."""
    source = family_of_case("qwen2_5_vl").folder
    folder = shutil.copytree(source, tmp_path / "published")
    renamed = {
        name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): weight
        for name, weight in load_file(source / "model.safetensors").items()
    }
    assert any(name.startswith("visual.") for name in renamed)
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    del text["model_type"], config["vision_config"]["model_type"]
    config |= {"rope_theta": rope["rope_theta"], "rope_scaling": {"type": "mrope", "mrope_section": [2, 2, 2]}}
    (folder / "config.json").write_text(json.dumps({**text, **config}))
    changed(folder / "preprocessor_config.json", size=..., min_pixels=256, max_pixels=1600)
    ours, expected = (load_model(str(place), None, "fp32", "sdpa") for place in (folder, source))
    for (name, weight), (other, same) in zip(
        ours.model.named_parameters(), expected.model.named_parameters(), strict=True
    ):
        assert name == other
        assert torch.equal(weight, same)
    assert ours.family.image_tokens((300, 200)) == expected.family.image_tokens((300, 200))


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("config.json", {"model_type": "qwen2_vl"}, r"'qwen2_vl'; supported: .*take a Qwen2.5-VL \(qwen2_5_vl\)"),
        ("config.json", {"model_type": "qwen3_vl_moe"}, "only the dense models .* not a mixture of experts"),
        ("config.json", {"quantization_config": {"quant_method": "awq"}}, "quantised weights .awq"),
        ("config.json", {"vision_config": ...}, "no vision_config"),
        ("config.json", {"text_config": ...}, "no sizes of the language model|no text_config"),
        ("preprocessor_config.json", {"patch_size": 14}, "patch_size is 14, the vision tower takes 4"),
        ("preprocessor_config.json", {"merge_size": 3}, "merge_size is 3, the vision tower takes 2"),
        ("preprocessor_config.json", {"do_resize": False}, "do_resize is False; images are resized to whole tokens"),
        ("preprocessor_config.json", {"image_processor_type": "CLIPImageProcessor"}, "takes Qwen2VLImageProcessor"),
        ("preprocessor_config.json", {"size": {"height": 3, "width": 3}}, "size is .*shortest_edge"),
        ("preprocessor_config.json", {"max_pixels": 0}, "max_pixels is 0; supported form"),
        ("preprocessor_config.json", {"min_pixels": 5000}, "min_pixels 5,000 is more than max_pixels 1,600"),
    ],
)
def test_what_is_not_supported_is_refused_by_name_with_what_is(folder, file, values, message):
    changed(folder / file, **values)
    with pytest.raises(ConfigError, match=message):
        family_of(folder).image_processor()


def test_modes_and_sizes_of_others_a_missing_processor_and_a_sliding_window_are_refused(folder):
    with pytest.raises(ConfigError, match=r"image_mode pad is LLaVA-1.5's; .* set image_mode to export"):
        family_of(folder).image_processor("pad")
    with pytest.raises(ConfigError, match=r"image_size is 48; .* set max_pixels instead"):
        family_of(folder).image_processor(size=48)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match=r"has no preprocessor_config.json, which says how many pixels images get"):
        family_of(folder).image_processor()
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["use_sliding_window"] = True
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"with a sliding window .use_sliding_window"):
        family_of(folder)
