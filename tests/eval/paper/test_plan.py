"""What a protocol, a data set and a model make of the paper's rows, before anything is run."""

from pathlib import Path

import pytest

from configs.eval_dir import EvalDir
from data_prep.prompts import classification_prompt, image_question
from data_prep.sample import Turn
from eval.paper.plan import Planned, Request, answered, open_dataset, plan
from eval.runner.output_paths import output_paths_of
from eval.runner.predictions import PredictionWriter
from eval.types import FailedItem
from tests.eval.stored_answers import stored_answer
from train.chat.render import ChatRenderer
from train.chat.tokenizer import load_tokenizer

GPT4, LLAVA = "api:gpt-4-turbo-2024-04-09", "llava-hf/llava-1.5-7b-hf"


@pytest.fixture
def world(tmp_path, data_section, monkeypatch):
    """Data sets `pets` and `quiz` as YAML files, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    for name, task in (("pets", "open_world"), ("quiz", "multiple_choice")):
        lines = [f"name: {name}", "model: none", f"source: {name}"]
        lines += [f"protocol: {{task: {task}, answer_prefix: Think., max_new_tokens: 1024}}", data_section]
        lines += ["probe_source: pets"] if name == "pets" else []
        (tmp_path / f"{name}.yaml").write_text("\n".join(lines))


def rows_of(dataset: str, model: str, protocol: str = "paper", *overrides: str) -> dict[str, Planned]:
    request = Request(model, protocol, overrides)
    return {row.row.key: row for row in plan([open_dataset(f"{dataset}.yaml", request)], request)}


@pytest.mark.parametrize(("protocol", "indent", "parser"), [("paper", False, "careful"),
                                                           ("official", True, "first_character")])  # fmt: skip
def test_an_api_is_asked_with_the_class_and_without_the_image_as_the_filter_of_the_questions(
    world, protocol, indent, parser
):
    rows = {key: row.config.protocol for key, row in rows_of("quiz", GPT4, protocol).items()}
    for key, named in (("with_class", True), ("without_image", False)):
        asked = rows[key]
        assert (asked.choice_prompt, asked.show_image, asked.answer_prefix) == ("filter", False, "")
        assert (asked.reveal_class, asked.filter_indent, asked.choice_parser) == (named, indent, parser)
    assert (rows["questions"].choice_prompt, rows["questions"].answer_prefix) == ("stored", "Think.")


def test_a_model_on_this_machine_is_asked_with_the_class_as_stored(world):
    rows = {key: row.config.protocol for key, row in rows_of("quiz", LLAVA).items()}
    assert {protocol.choice_prompt for protocol in rows.values()} == {"stored"}
    assert (rows["with_class"].reveal_class, rows["with_class"].show_image) == (True, True)


def test_a_question_that_failed_and_was_answered_later_counts_once(world):
    row = rows_of("pets", LLAVA)["open"]
    folder = EvalDir(output_paths_of(row.config).root)
    folder.root.mkdir(parents=True)
    folder.config.touch()
    with PredictionWriter(folder.predictions(0)) as writer:
        writer.write([FailedItem("pets/a", "late"), FailedItem("pets/b", "late"), stored_answer("pets/a", "cat")])
    assert answered(row) == 2


@pytest.mark.slow
def test_a_choice_has_the_evaluations_tokens_and_a_reasoned_class_512(world):
    assert rows_of("quiz", LLAVA)["questions"].config.protocol.max_new_tokens == 1024
    assert rows_of("pets", LLAVA)["closed_cot"].config.protocol.max_new_tokens == 512
    assert rows_of("quiz", LLAVA, "official_finetuned")["questions"].config.protocol.max_new_tokens == 1024


TEN = 'probe.token_positions=["0", "600", "-1", mean]'


@pytest.mark.slow
def test_table_10_is_asked_with_the_system_prompt_that_its_last_position_needs_and_table_3_without(world):
    rows = rows_of("pets", LLAVA, "paper", TEN)
    probe, positions = rows["probe"].config, rows["positions"].config
    assert (probe.protocol.system_prompt, positions.protocol.system_prompt) == ("none", "vicuna_v1")
    assert probe.probe.token_positions == ("-1", "mean")
    assert positions.probe.token_positions == ("0", "600", "-1", "mean")
    own = rows_of("pets", LLAVA, "paper", TEN, "protocol.system_prompt=none")
    assert own["positions"].config.protocol.system_prompt == "none"


def test_table_10_is_about_llava_and_positions_that_are_asked_for(world):
    assert "positions" not in rows_of("pets", LLAVA)
    assert rows_of("pets", "Salesforce/blip2-opt-2.7b", "paper", TEN)["positions"].reason == (
        "Table 10 is about LLaVA-1.5"
    )


TOKENIZER = Path(__file__).resolve().parents[4] / "shared" / "data" / "tokenizer_legacy_true"


@pytest.mark.slow
@pytest.mark.skipif(not TOKENIZER.is_dir(), reason="needs the LLaMA tokenizer")
def test_without_a_system_prompt_the_question_ends_before_position_600():
    turns = (Turn("human", image_question(classification_prompt("paper"))),)
    renderers = {system: ChatRenderer(load_tokenizer(TOKENIZER), "llava", system) for system in ("none", "vicuna_v1")}
    lengths = {system: len(renderer.render_question(turns)) - 1 + 576 for system, renderer in renderers.items()}
    assert lengths["none"] == 597
    assert lengths["vicuna_v1"] > 600
