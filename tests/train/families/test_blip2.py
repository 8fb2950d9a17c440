"""BLIP-2 and InstructBLIP: what they train, with which settings, and what they refuse."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from configs.errors import ConfigError, DataError
from configs.load import describe, load_config
from configs.run import RunConfig
from data_prep.sample import Turn
from eval.paper.finetuned_rows import Training, finetuned_rows
from eval.paper.published import paper_numbers
from tests.train.families.conftest import TrainedFamily, items, joined
from tests.train.families.test_gradients import assert_same, gradients, our_loss
from train.data.collate import collate
from train.exported_files import write_text_files
from train.models.loading import load_model
from train.models.loss_module import LossModule
from train.models.param_groups import choose_trainable, parameter_groups
from train.models.registry import family_of

ROOT = Path(__file__).resolve().parents[3]
PAPER = {
    "optim.lr_projector": "2e-05",
    "optim.weight_decay": "0.05",
    "optim.warmup_steps": "1000",
    "train.global_batch": "64",
    "chat.template": "question",
    "model.mode": "projector",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "epochs"), [("imagenet", 10), ("flowers102", 100), ("stanford_cars", 100), ("caltech101", 100)]
)
def test_a_preset_prints_the_papers_hyperparameters_with_their_source(dataset, epochs):
    config, origins = load_config(RunConfig, ROOT / f"configs/{dataset}_blip2.yaml")
    lines = dict(line.split(" = ", 1) for line in describe(config, origins).splitlines() if " = " in line)
    for name, value in PAPER.items():
        assert lines[name].split("  #")[0].strip("' ") == value
        assert "recipe paper_blip2: B.5" in lines[name]
    assert (config.train.epochs, config.model.base) == (epochs, "Salesforce/blip2-opt-2.7b")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["blip-2", "instructblip"])
def test_the_projector_is_the_q_former_its_queries_the_projection_and_the_towers_norm(family_of_case, name):
    trained = family_of_case(name)
    model = trained.ours(trained.plan()).model
    names = {parameter for parameter, weight in model.named_parameters() if weight.requires_grad}
    modules = {".".join(parameter.split(".")[: 2 if "vision" in parameter else 1]) for parameter in names}
    assert modules == {"query_tokens", "qformer", "language_projection", "vision_model.post_layernorm"}


@pytest.mark.slow
def test_an_answer_of_opt_ends_with_a_line_break_and_the_image_comes_first(family_of_case):
    trained = family_of_case("blip-2")
    plan = trained.plan()
    (example,) = trained.examples(items(trained.case)[:1])
    text = plan.example_builder.renderer.tokenizer.decode(example.input_ids[plan.family.fixed_image_tokens :])
    assert text == "</s>Question: What type of object is in this photo? Answer: red blue\n"
    assert set(example.input_ids[: plan.family.fixed_image_tokens]) == {plan.family.image_token_id}
    targets = [token for token, on in zip(example.input_ids, example.supervised, strict=True) if on]
    assert plan.example_builder.renderer.tokenizer.decode(targets) == " red blue\n"


@pytest.mark.slow
def test_the_q_former_of_instructblip_reads_the_question_and_not_the_answer(family_of_case):
    trained = family_of_case("instructblip")
    plan = trained.plan()
    images = items(trained.case)[:2]
    batch = collate(trained.examples(images), plan.family).images
    for row, item in enumerate(images):
        expected = trained.inputs(item)["qformer_input_ids"][0]
        mask = batch.tensors["question_mask"][row].bool()
        assert torch.equal(batch.tensors["question"][row][mask], expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            "chat.template=llava",
            "chat.template is llava, which BLIP-2 does not understand; set it to one of question, ",
        ),
        ("chat.image_mode=pad", "BLIP-2 has another preprocessing: set image_mode to export"),
        ("optim.warmup_steps=1000", "warmup_steps is 1,000 and the run has 6 steps"),
    ],
)
def test_a_setting_that_blip2_does_not_have_is_refused_by_name(family_of_case, settings, message):
    with pytest.raises(ConfigError, match=message):
        family_of_case("blip-2").plan(settings)


@pytest.mark.slow
def test_weight_decay_leaves_biases_and_norms_alone_and_lora_knows_opts_layers(family_of_case):
    trained = family_of_case("blip-2")
    plan = trained.plan("model.mode=lora", "optim.weight_decay=0.05")
    model = load_model(str(trained.folder), None, "fp32", "sdpa").model
    choose_trainable(model, plan.family, plan.config.model, plan.config.optim)
    groups = parameter_groups(model, plan.family, plan.config.optim)
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    adapted = set()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert decays.pop(id(parameter)) == (0.0 if parameter.ndim == 1 else 0.05), name
            adapted |= {name.split(".")[-4]} if "lora_A" in name else set()
    assert not decays
    assert adapted == {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["blip-2", "instructblip"])
def test_another_image_size_is_trained_as_by_transformers_and_is_the_exports_own(family_of_case, tmp_path, name):
    base = family_of_case(name)
    trained = TrainedFamily(base.case, base.root, base.folder)
    trained.processor.image_processor.size = {"height": 48, "width": 48}
    plan = trained.plan("chat.image_size=48", "model.mode=full")
    chosen = [item for item in items(trained.case) if item.image is not None][:2]
    builder, like = plan.example_builder, plan.sources.sample(0)
    loaded = trained.ours(plan)
    theirs = trained.theirs(plan, loaded.model)
    expected = [trained.expected(item) for item in chosen]
    batch = joined([trained.inputs(item) for item in chosen], [on for _, on in expected])
    output = theirs(**batch, interpolate_pos_encoding=True)
    module = LossModule(loaded.model, plan.family).eval()
    ours = our_loss(module, collate([builder.build(item.sample(like), 0) for item in chosen], plan.family))
    assert float(ours.detach()) == pytest.approx(float(output.loss.detach()), rel=1e-5)
    wanted = gradients(theirs, output.loss)
    assert "vision_model.embeddings.position_embedding" in wanted
    assert_same(gradients(loaded.model, ours), wanted)

    family = plan.family.take_image_size(loaded.model, 48, torch.float32)
    loaded.model.save_pretrained(tmp_path)
    write_text_files(family, trained.folder, tmp_path, plan.config.chat)
    exported = TrainedFamily(base.case, base.root, tmp_path)
    inputs = exported.inputs(chosen[0])
    assert inputs["pixel_values"].shape[-1] == 48
    with torch.no_grad():
        logits = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).eval()(**inputs).logits
    length = inputs["input_ids"].shape[1]
    torch.testing.assert_close(logits[0], output.logits[0, :length].detach(), atol=1e-5, rtol=1e-5)
    assert family_of(tmp_path).image_processor().description == "48 px, mode squash"


@pytest.mark.slow
def test_an_image_size_that_does_not_fit_the_tower_or_the_processor_is_refused(family_of_case, tmp_path):
    trained = family_of_case("blip-2")
    with pytest.raises(ConfigError, match="cuts images into patches of 8 pixels a side: set a multiple, such as 56"):
        trained.plan("chat.image_size=50")
    with pytest.raises(ConfigError, match="image_size is 100000; it must be at most 4096"):
        trained.plan("chat.image_size=100000")
    with pytest.raises(ConfigError, match=r"image_size is 48 and LLaVA-NeXT's tower takes 32: only BLIP-2 and"):
        family_of_case("llava_next").plan("chat.image_size=48")
    folder = shutil.copytree(trained.folder, tmp_path / "base")
    file = folder / "processor_config.json"
    settings = json.loads(file.read_text())
    settings["image_processor"] |= {"size": {"height": 40, "width": 40}, "do_center_crop": True,
                                    "crop_size": {"height": 32, "width": 32}}  # fmt: skip
    file.write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=r"image_size is 48, and the image processor of .* does more than resize"):
        family_of(folder).image_processor(size=48)


def test_a_trained_blip2_is_compared_with_the_papers_fine_tuned_row():
    training = Training("Salesforce/blip2-opt-2.7b", "projector", ("flowers102_train",))
    protocol = {"task": "open_world", "prompt": "paper", "template": "question"}
    rows = finetuned_rows(training, protocol, "Flowers102")
    known = {row: number.value for row, number in paper_numbers().items()}
    assert known["table3/finetuned/BLIP2-2.7B/projector/Flowers102"] == 0.99
    assert rows[0] == "table3/finetuned/BLIP2-2.7B/projector/Flowers102"


@pytest.mark.slow
def test_a_question_that_the_q_former_cannot_read_is_found_before_any_image_is_decoded(family_of_case):
    builder = family_of_case("instructblip").plan().example_builder
    like = family_of_case("instructblip").plan().sources.sample(0)
    turns = (Turn("gpt", "b"), Turn("human", "<image>\n" + "red " * 120), Turn("gpt", "a"))
    with pytest.raises(DataError, match="too long for the Q-Former, which reads 96 tokens: it has 122"):
        builder.tokens(replace(like, turns=turns), has_image=True)
    turns = (Turn("gpt", "red " * 120), Turn("human", "<image>\nred"), Turn("gpt", "a"))
    example = builder.build(replace(like, turns=turns), 0)
    assert len(example.image.arrays["question"]) == 3, "the question and not what was said before it"
