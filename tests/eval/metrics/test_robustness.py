"""How a table of robustness is computed: a case by hand, and which factors an evaluation has."""

from pathlib import Path

import pytest

from configs.data import DataConfig, SourceConfig
from configs.errors import ConfigError
from configs.evaluation import EvalConfig
from configs.protocol import ProtocolConfig
from eval.metrics.grouped import ItemPoints
from eval.metrics.robustness import FactorOutcomes, robustness_results
from eval.reports.robustness_page import robustness_page
from eval.runner.variants import Choice, factors_of


def points(correct):
    return {item: ItemPoints(float(value)) for item, value in correct.items()}


BASE = points({"a": True, "b": True, "c": False, "d": False})
WORSE = points({"a": True, "b": False, "c": False, "d": False})
OTHER = points({"a": False, "b": True, "c": True, "d": True})
FACTORS = [
    FactorOutcomes("wording", "protocol.prompt", {"paper": BASE, "identify": WORSE, "main_object": OTHER}),
    FactorOutcomes("batch_size", "batch_size", {"16": BASE, "1": BASE}),
    FactorOutcomes("seed", "protocol.seed", {}, "nothing is drawn"),
]


@pytest.mark.slow  # imports scipy
def test_the_table_is_the_one_computed_by_hand():
    found = robustness_results(BASE, FACTORS, "open_world")
    wording, batch, seed = found["factors"]
    assert [value["accuracy"]["count"] for value in wording["values"]] == [2, 1, 3]
    assert (wording["mean"], wording["min"], wording["max"]) == (0.5, 0.25, 0.75)
    assert wording["deviation"] == pytest.approx(0.25)
    assert wording["changed"]["count"] == 4, "every item is right under one wording and wrong under another"
    assert wording["values"][1]["against_base"]["first_only"] == 1
    assert wording["values"][2]["against_base"]["difference"] == 0.25
    assert batch["changed"]["count"] == 0 and batch["deviation"] == 0.0
    assert seed["values"] == [] and seed["reason"] == "nothing is drawn"
    assert found["variants"] == 4 and found["overall"]["mean"] == pytest.approx((2 + 1 + 3 + 2) / 16)
    assert wording["values"][0]["against_base"] is None, "the base is not compared with itself"


def test_p_values_are_adjusted_for_the_number_of_variants():
    correct = points({str(number): True for number in range(20)})
    wrong = points({key: int(key) >= 10 for key in correct})
    factor = FactorOutcomes("seed", "s", {"0": correct, "1": wrong, "2": wrong})
    found = robustness_results(correct, [factor], "open_world")
    pair = found["factors"][0]["values"][1]["against_base"]
    assert pair["p_value"] == pytest.approx(2 / 2**10) and pair["p_adjusted"] == pytest.approx(4 / 2**10)


def test_partial_credit_counts_as_in_the_report_and_images_are_compared_as_one():
    base = {"a": ItemPoints(0.3, "1"), "b": ItemPoints(1.0, "1"), "c": ItemPoints(0.0, "2")}
    other = base | {"c": ItemPoints(0.6, "2")}
    found = robustness_results(base, [FactorOutcomes("batch_size", "b", {"16": base, "1": other})], "vqa")
    assert found["base"]["value"] == pytest.approx(1.3 / 3), "an answer with some credit is no whole point"
    assert (found["base"]["groups"], found["base"]["n"]) == (2, 3)
    values = found["factors"][0]
    assert (values["min"], values["max"]) == (pytest.approx(1.3 / 3), pytest.approx(1.9 / 3))
    assert values["changed"]["count"] == 1
    pair = values["values"][1]["against_base"]
    assert pair["groups"] == 2 and pair["difference"] == pytest.approx(0.2)


def test_the_page_names_the_reason_of_a_factor_that_is_not_varied():
    head = {"name": "x", "model": "m", "label": "export", "source": "pets", "notes": ["one is left out"]}
    head["report"] = "runs/m/eval/x/export/report.html"
    protocol = {"task": "open_world", "name": "clean", "hash": "0"}
    results = head | {"protocol": protocol} | robustness_results(BASE, FACTORS, "open_world")
    text = robustness_page(results, Path("runs/m/eval/x/robustness")).markdown()
    assert "[report](../export/report.html)" in text
    assert "Not varied: seed (nothing is drawn)." in text and "one is left out" in text
    assert "| wording | 3 | 50.0 % | 25.00 | 25.0 % | 75.0 % | 100.0 % | 1 |" in text
    assert "| all | 4 | 50.0 % |" in text


def config_of(model="m", **protocol):
    data = DataConfig(sources={"pets": SourceConfig(reader="image_folder", path="x")})
    settings = {"classes": "imagenet", **protocol}
    return EvalConfig(name="pets", model=model, source="pets", data=data, protocol=ProtocolConfig(**settings))


@pytest.mark.parametrize(
    ("protocol", "varied"),
    [
        ({"task": "open_world"}, {"wording", "image_order", "batch_size"}),
        ({"task": "closed_world", "candidates": 20}, {"wording", "image_order", "batch_size", "seed"}),
        ({"task": "closed_world", "order": "fixed"}, {"wording", "image_order", "batch_size"}),
        ({"task": "class_likelihood", "candidates": 20}, {"wording", "image_order", "batch_size", "seed"}),
        ({"task": "zero_shot"}, {"wording", "batch_size"}),
        ({"task": "multiple_choice", "unparsed": "random"}, {"image_order", "batch_size", "seed"}),
        ({"task": "multiple_choice", "show_image": False}, {"batch_size"}),
    ],
)
def test_only_what_can_change_an_evaluation_is_varied(protocol, varied):
    factors = factors_of(config_of(**protocol), Choice())
    assert {factor.name for factor in factors if factor.variants} == varied
    assert all(bool(factor.variants) != bool(factor.reason) for factor in factors)
    outputs = [variant.config.output for factor in factors for variant in factor.variants]
    assert len(set(outputs)) == len(outputs)


def test_the_base_keeps_its_own_value_and_stored_scores_serve_every_seed():
    config = config_of(task="class_likelihood", candidates=20, prompt="identify", seed=3)
    wording, _, batch, seed = factors_of(config, Choice(seeds=3, batch_sizes=(16, 2)))
    assert wording.base_value == "identify" and [v.value for v in wording.variants] == ["paper", "main_object"]
    assert [variant.value for variant in batch.variants] == ["2"], "16 is the base's"
    assert [variant.value for variant in seed.variants] == ["4", "5"] and all(v.rescored for v in seed.variants)
    assert seed.variants[0].config.protocol.seed == 4
    api = factors_of(config_of(model="api:x"), Choice())
    assert api[1].setting == "api.image_position" and api[2].reason == "an API gets one question at a time"


def test_batch_sizes_that_are_chosen_later_do_not_find_the_answers_of_other_sizes():
    outputs = [
        {variant.value: variant.config.output for variant in factors_of(config_of(), choice)[2].variants}
        for choice in (Choice(batch_sizes=(1, 4)), Choice(batch_sizes=(4,)), Choice(batch_sizes=(2, 1)))
    ]
    assert outputs[0]["4"] == outputs[1]["4"] != outputs[2]["2"]
    assert outputs[0]["1"] == outputs[2]["1"]


def test_answers_that_only_a_grader_scores_are_refused_as_no_rule_would_make_them_all_wrong():
    with pytest.raises(ConfigError, match="task is graded, whose answers no rule scores"):
        factors_of(config_of(task="graded"), Choice())


def test_several_checkpoints_are_refused():
    with pytest.raises(ConfigError, match="checkpoint is all"):
        factors_of(EvalConfig(**{**vars_of(config_of()), "checkpoint": "all"}), Choice())


def vars_of(config):
    return {name: getattr(config, name) for name in config.__dataclass_fields__}
