"""Every difference between the paper and the authors' code is a setting that exists, or has a reason."""

import dataclasses
import importlib.util
import json
import re

import pytest

from configs.evaluation import EvalConfig
from configs.protocol import ProtocolConfig
from configs.recipe import read_recipe
from configs.run import RunConfig
from configs.section import Section
from eval.paper.audit import AUDIT, numbers_of
from eval.paper.protocol_table import protocol_lines
from eval.paper.training_differences import TRAINING
from eval.protocols import main


def names_of(schema: type[Section], prefix: str = "") -> set[str]:
    """Dotted names of all settings of a schema."""
    found = set()
    for spec in dataclasses.fields(schema):
        found.add(f"{prefix}{spec.name}")
        if isinstance(spec.type, type) and issubclass(spec.type, Section):
            found |= names_of(spec.type, f"{prefix}{spec.name}.")
    return found


def test_the_audits_differences_are_all_there_in_order():
    numbers = [int(difference.number.removeprefix("D")) for difference in AUDIT]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 47


@pytest.mark.parametrize("difference", AUDIT, ids=lambda difference: difference.number)
def test_a_difference_is_a_setting_that_exists_or_has_a_reason(difference):
    known = names_of(EvalConfig) | names_of(RunConfig)
    assert {"protocol.match", "probe.epochs", "train.epochs"} <= known  # the names are those of the schemas
    assert set(difference.settings) <= known
    assert difference.settings or difference.reason
    assert difference.description and difference.paper and difference.default
    for module in re.findall(r"python -m ([\w.]+)", difference.reason):
        assert importlib.util.find_spec(module) is not None


def test_what_paper_and_official_choose_otherwise_has_a_number():
    lines = protocol_lines(["paper", "official", "official_finetuned", "official_finetuned_blip"])
    assert {line.setting for line in lines if line.differs and not line.audit} == set()
    assert sum(line.differs for line in lines) > 15
    assert {line.setting for line in lines} == {
        *("dtype", "probe.choose_epoch", "probe.schedule", "probe.shuffle", "probe.precision"),
        *("api.temperature", "api.answer_limit", "api.image_position"),
        *(f"protocol.{spec.name}" for spec in dataclasses.fields(ProtocolConfig) if spec.name != "name"),
    }  # fmt: skip


def test_what_the_training_recipes_paper_and_official_choose_otherwise_has_a_number():
    paper, official = read_recipe("paper"), read_recipe("official")
    numbered = {setting for difference in AUDIT for setting in difference.settings}
    differing = {key for key in paper.keys() & official.keys() if paper[key].value != official[key].value}
    assert {"data.prompt", "chat.system_prompt", "train.last_batch", "checkpoint.keep"} <= differing <= numbered
    assert "train.batching" in numbered, "left to the run by paper"
    for difference in TRAINING:
        assert difference.settings and difference.paper and difference.default


def test_a_setting_names_the_differences_it_chooses_in():
    assert numbers_of("protocol.match") == "D2 D13"
    assert numbers_of("protocol.task") == ""


def test_the_command_prints_a_line_a_setting_and_marks_what_differs(capsys, tmp_path):
    main([])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["setting", "audit", "clean", "llava_benchmarks", "official",
                                "official_finetuned", "official_finetuned_blip", "paper"]  # fmt: skip
    told = {line[2:].split()[0]: line for line in lines[1:64] if len(line.split()) > 3}
    assert told["match"].split() == [
        "*",
        "match",
        "D2",
        "D13",
        "name",
        "contains",
        "contains",
        "exact",
        "contains",
        "contains",
    ]
    assert not told["task"].startswith("*")
    own = tmp_path / "own.yaml"
    own.write_text("protocol: {match: word, class_token_ids: misaligned}\n")
    main(["paper", str(own), "--json"])
    values = json.loads(capsys.readouterr().out)
    found = {setting["setting"]: setting for setting in values["settings"]}
    assert found["protocol.class_token_ids"]["values"] == {"paper": "in_context", str(own): "misaligned"}
    assert found["protocol.class_token_ids"]["differs"] and found["protocol.class_token_ids"]["audit"] == ["D6"]
    assert len(values["audit"]) == len(AUDIT)


@pytest.mark.parametrize(("text", "message"), [(None, "choose one of clean"), ("protocol: {mach: word}\n", "mach")])
def test_an_unknown_protocol_or_setting_is_one_line_and_exit_code_2(capsys, tmp_path, text, message):
    file = tmp_path / "own.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit) as left:
        main(["paper", str(file)])
    assert left.value.code == 2
    assert message in capsys.readouterr().err
