"""What trains is named wrongly: each mistake is one line that lists what there is, before any weight is loaded."""

import re

import numpy as np
import pytest

from configs.errors import ConfigError, DataError
from configs.model import LoraConfig, ModelConfig
from configs.section import result_fields
from configs.training import OptimConfig
from train.data.sources import SourceSet
from train.model_card import trained_parameters
from train.models.meta_model import meta_model
from train.models.param_groups import PartCount, choose_trainable, parameter_groups
from train.models.selective import described
from train.optimization.flops import FlopModel
from train.plan import make_plan
from train.tools.preview import preview

pytestmark = pytest.mark.slow

LORA = ("model.mode=lora", "optim.lr_vision=1e-4", "model.lora.rank=4")
SELECTIVE = ("model.mode=selective",)


@pytest.fixture
def refused(training_setup, monkeypatch):
    """The error of a plan, which loads no weights."""
    monkeypatch.setattr("train.models.loading.load_checked", lambda *_, **__: pytest.fail("weights were loaded"))

    def error(*settings: str) -> str:
        with pytest.raises(ConfigError) as told:
            make_plan(training_setup.config("choosing", *settings), 1, "cpu")
        return str(told.value)

    return error


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            (*LORA, "model.lora.scope=[]"),
            "lora.scope is []; name one or more of language, projector, vision",
        ),
        ((*LORA, "model.lora.scope=[tower]"), "lora.scope is [tower]; name one or more of language, projector, vision"),
        ((*LORA, "model.lora.scope=[vision,vision]"), "lora.scope is [vision, vision]; name one or more"),
        ((*LORA, "model.lora.variant=adalora"), "variant is 'adalora'; choose one of: lora, rslora, dora, pissa"),
        (
            ("model.mode=lora", "model.lora.scope=[language,vision]"),
            "model.lora.scope has vision and optim.lr_vision is 0, so its LoRA would not train; set it above 0",
        ),
        (("model.mode=lora", "optim.lr_language=0"), "model.lora.scope has language and optim.lr_language is 0"),
        (
            (*LORA, "model.lora.variant=dora", "deepspeed.zero_stage=3"),
            "model.lora.variant is dora and deepspeed.zero_stage 3: DoRA computes the norm of whole weights",
        ),
        (
            (*LORA, "model.lora.scope=[language,projector]", "model.lora.targets=[q_proj]"),
            "model.lora.scope has projector, and none of its linear layers is in model.lora.targets (q_proj); they are "
            "linear_1, linear_2",
        ),
        (
            (*LORA, "model.lora.scope=[projector,vision]", "model.lora.targets=[fc1,linear_1,o_proj]"),
            "model.lora.targets has o_proj, and the projector and the vision tower of this LLaVA-1.5 have no linear "
            "layer of that name; their linear layers are fc1, fc2, k_proj, linear_1, linear_2, out_proj",
        ),
        (
            (*LORA, "model.lora.variant=pissa", "model.lora.rank=100"),
            "model.lora.rank is 100, and pissa begins with as many singular values of each weight: model.",
        ),
        (
            (*SELECTIVE, "model.selective='layers.('"),
            "selective is 'layers.(', which is no regular expression (",
        ),
        (
            (*SELECTIVE, "model.selective=qkv"),
            "model.selective is 'qkv', which finds no parameter of this LLaVA-1.5; it has model.vision_tower.",
        ),
        ((*SELECTIVE, "model.selective=''"), "which finds every parameter: set model.mode to full, or name some of"),
        ((*SELECTIVE, "model.selective=model|lm_head"), "which finds every parameter: set model.mode to full"),
        (
            (*SELECTIVE, "model.selective=fc1"),
            "which finds model.vision_tower.encoder.layers.0.mlp.fc1.weight, and the learning rate of its part vision "
            "(optim.lr_vision) is 0",
        ),
        (
            (*SELECTIVE, "model.selective=post_layernorm", "optim.lr_vision=1e-4"),
            "which finds only parameters without an effect, model.vision_tower.post_layernorm; others are ",
        ),
        ((*SELECTIVE, "optim.lr_language=0"), "and the learning rate of its part language (optim.lr_language) is 0"),
    ],
)
def test_a_choice_that_does_not_fit_is_refused_with_what_there_is(refused, settings, expected):
    told = refused(*settings)
    assert expected in told
    assert "\n" not in told


def test_a_pattern_that_finds_only_a_tied_head_says_whose_weight_it_is(training_setup):
    plan = make_plan(training_setup.config("choosing"), 1, "cpu")
    model = meta_model(plan.family, plan.config)
    model.lm_head.weight = model.get_input_embeddings().weight
    config = ModelConfig(base="x", mode="selective", selective="lm_head")
    with pytest.raises(ConfigError, match=r"which finds only lm_head.weight, the same weight as another here of"):
        choose_trainable(model, plan.family, config, OptimConfig())


@pytest.mark.parametrize("settings", [(*LORA, "model.lora.scope=[vision]"), (*SELECTIVE, "model.selective=projector")])
def test_texts_alone_cannot_train_what_only_images_reach(training_setup, monkeypatch, settings):
    monkeypatch.setattr(SourceSet, "with_image", lambda sources: np.zeros(len(sources), dtype=bool))
    config = training_setup.config("choosing", *settings)
    with pytest.raises(DataError, match=f"model.mode is {config.model.mode} and no sample of .* has an image"):
        make_plan(config, 1, "cpu")


def test_each_part_has_its_rate_and_dora_s_magnitudes_do_not_decay(training_setup):
    settings = (*LORA, "model.lora.scope=[language,projector,vision]", "model.lora.variant=dora")
    plan = make_plan(training_setup.config("choosing", *settings, "optim.weight_decay=0.1"), 1, "cpu")
    model = meta_model(plan.family, plan.config)
    groups = parameter_groups(model, plan.family, plan.config.optim)
    assert {group["name"]: group["lr"] for group in groups} == {
        part: getattr(plan.config.optim, f"lr_{part}") for part in ("language", "projector", "vision")
    }
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert {"lora_magnitude" in name: decay for name, decay in decayed.items()} == {True: 0.0, False: 0.1}


def test_flops_count_the_backward_pass_of_what_trains(training_setup):
    plan = make_plan(training_setup.config("choosing"), 1, "cpu")
    text = plan.family.text_config
    look_up = text.vocab_size * text.hidden_size

    def flops(**rows: tuple[int, int]) -> tuple[int, int]:
        found = {"language": (1000 + look_up, 0), "vision": (100, 0)}
        found |= {name.replace("_", " "): sizes for name, sizes in rows.items()}
        model = FlopModel.of(plan.family, [PartCount(part, *sizes, 1.0) for part, sizes in found.items()])
        return model.language.flops(backward=True), model.vision.flops(backward=model.vision.trains)

    assert flops() == (4000, 200)
    assert flops(LoRA=(10, 10)) == (4060, 200)
    assert flops(LoRA_vision=(10, 10)) == (4000, 460)
    assert flops(language=(1000 + look_up, 300), vision=(100, 0)) == (4600, 200)
    assert flops(language=(1000 + look_up, 1000 + look_up), vision=(100, 100)) == (6000, 600)


def test_what_a_run_trains_belongs_to_what_a_resume_compares(training_setup):
    fields = result_fields(training_setup.config("choosing", *LORA, "model.lora.scope=[vision]"))
    assert (fields["model.lora.variant"], tuple(fields["model.lora.scope"])) == ("lora", ("vision",))
    assert "model.selective" not in fields, "it decides in its own mode alone"
    assert result_fields(training_setup.config("choosing", *SELECTIVE))["model.selective"] == "attention"


def test_the_papers_lora_is_named_as_the_paper_names_it_and_others_by_what_they_are():
    def named(**lora: object) -> str:
        return ModelConfig(base="x", mode="lora", lora=LoraConfig(**lora)).trained_as

    assert named(rank=8) == "lora"
    assert named(variant="dora") == "dora on language"
    assert named(scope=("language", "vision")) == "lora on language, vision"
    assert ModelConfig(base="x", mode="full").trained_as == "full"


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ((*LORA, "model.lora.scope=[projector]"), "LoRA (lora on projector)"),
        ((*LORA, "model.lora.variant=dora"), "LoRA (dora on language) and the projector"),
        (LORA, "LoRA and the projector"),
        (SELECTIVE, "the parameters that `attention` finds"),
        (("model.mode=full", "optim.lr_vision=0"), "the language model and the projector"),
        (("model.mode=full", "optim.lr_vision=1e-5"), "all parameters"),
    ],
)
def test_a_model_card_says_what_was_trained(training_setup, settings, line):
    assert trained_parameters(training_setup.config("choosing", *settings)) == line


def test_a_dry_run_of_dora_says_whose_layers_run_and_what_is_adapted(training_setup):
    settings = (*LORA, "model.lora.scope=[language,vision]", "model.lora.variant=dora")
    told = preview(make_plan(training_setup.config("choosing", *settings), 1, "cpu"), 0)
    assert (
        "trained LoRA      on q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj of the language model, "
        in told
    )
    assert "of the vision tower, variant dora" in told
    assert "LoRA              peft's layers, as DoRA needs the norm of each adapted weight" in told


def test_a_choice_of_some_layers_is_described_by_their_numbers_and_one_of_all_by_none():
    names = [f"model.layers.{number}.{part}.weight" for number in range(12) for part in ("q_proj", "mlp.0")]
    names += ["model.norm.weight"]
    chosen = [name for name in names if re.search("layers.1", name)]
    assert described(chosen, 16, names) == "model.layers.{1,10-11}.q_proj, model.layers.{1,10-11}.mlp.N"
    assert described(names, 16, names) == "model.layers.N.q_proj, model.layers.N.mlp.N, model.norm"
    assert described(chosen, 1) == "model.layers.N.q_proj and 1 more"
