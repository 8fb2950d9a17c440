"""What differs between language models: sliding windows, and which decoders run layer by layer."""

from dataclasses import replace

import pytest

from configs.errors import ConfigError
from train.models.target_states import ForwardOptions, TargetStates
from train.toy.tiny_languages import WINDOW

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["llava_siglip_qwen2", "llava_mistral", "llava_tied"])
def test_decoders_run_layer_by_layer_up_to_their_window(family_of_case, name):
    plan = family_of_case(name).plan()
    loaded = family_of_case(name).ours(plan)
    options = ForwardOptions(longest=WINDOW)
    assert TargetStates(loaded.model, plan.family, options).runs_own_decoder_loop(packed=True)
    longer = TargetStates(loaded.model, plan.family, replace(options, longest=WINDOW + 1)).why_transformers(packed=True)
    if name == "llava_mistral":
        assert longer == f"with a sliding window of {WINDOW} tokens and chat.max_length {WINDOW + 1}"
    else:
        assert longer is None


def test_packed_rows_are_refused_where_a_conversation_may_be_longer_than_the_window(family_of_case):
    mistral = family_of_case("llava_mistral")
    packed = ("train.batching=packed", "train.token_budget=512")
    with pytest.raises(ConfigError, match=f"sees {WINDOW} tokens back .* fewer than chat.max_length 400"):
        mistral.plan(*packed, "chat.max_length=400")
    assert mistral.plan(*packed, f"chat.max_length={WINDOW}").order.partitioner.batching == "packed"


def test_a_tower_whose_first_patch_would_be_dropped_still_has_transformers_number_of_tokens(family_of_case):
    family = family_of_case("llava_siglip_qwen2").plan().family
    assert family.fixed_image_tokens == 16
    family.config.vision_feature_select_strategy = "default"
    try:
        assert family.fixed_image_tokens == 15
    finally:
        family.config.vision_feature_select_strategy = "full"
