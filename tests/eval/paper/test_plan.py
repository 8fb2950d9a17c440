"""What a protocol, a data set and a model make of the paper's rows, before anything is run."""

import pytest

from eval.paper.plan import Planned, Request, open_dataset, plan

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
        assert (asked.name_class, asked.filter_indent, asked.choice_parser) == (named, indent, parser)
    assert (rows["questions"].choice_prompt, rows["questions"].answer_prefix) == ("stored", "Think.")


def test_a_model_on_this_machine_is_asked_with_the_class_as_stored(world):
    rows = {key: row.config.protocol for key, row in rows_of("quiz", LLAVA).items()}
    assert {protocol.choice_prompt for protocol in rows.values()} == {"stored"}
    assert (rows["with_class"].name_class, rows["with_class"].show_image) == (True, True)


def test_a_choice_has_the_evaluations_tokens_and_a_reasoned_class_512(world):
    assert rows_of("quiz", LLAVA)["questions"].config.protocol.max_new_tokens == 1024
    assert rows_of("pets", LLAVA)["closed_cot"].config.protocol.max_new_tokens == 512
    assert rows_of("quiz", LLAVA, "official_finetuned")["questions"].config.protocol.max_new_tokens == 1024
