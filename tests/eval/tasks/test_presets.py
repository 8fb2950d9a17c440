"""Protocol presets load, name every knob, and differ."""

import json

import pytest

from configs.errors import ConfigError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.section import result_fields
from eval.run import main
from eval.tasks.presets import PRESETS, preset_names, preset_overrides

ROWS = {
    *("task", "prompt", "classes", "candidates", "answer_prefix", "rule", "guidance", "show_image", "reveal_class"),
    *("question_suffix", "ocr_tokens", "temperature", "candidate_file", "seed", "labels", "labels_missing"),
    "image_order",
}
"""What an evaluation asks about; a preset leaves it alone (but for the wording of the authors' fine-tuned models)."""


@pytest.mark.slow
@pytest.mark.parametrize("name", preset_names())
def test_a_preset_names_every_knob_and_opens_with_its_command(name, write_config):
    config, _ = load_config(EvalConfig, write_config(), preset_overrides(name))
    keys = {text.split("=")[0].removeprefix("protocol.") for text in preset_overrides(name)}
    known = {key.removeprefix("protocol.") for key in result_fields(config) if key.startswith("protocol.")}
    assert config.protocol.name == name
    assert known - keys - ROWS <= {"max_new_tokens"}
    assert f"--protocol {name}" in (PRESETS / f"{name}.yaml").read_text().splitlines()[0]


@pytest.mark.slow
def test_presets_differ_and_none_changes_nothing(write_config):
    assert preset_overrides(None) == []
    hashes = {
        str(result_fields(load_config(EvalConfig, write_config(), preset_overrides(n))[0])) for n in preset_names()
    }
    assert len(hashes) == len(preset_names()) == 6


def test_an_unknown_preset_is_refused():
    with pytest.raises(ConfigError, match="choose one of clean, llava_benchmarks"):
        preset_overrides("peper")


@pytest.mark.slow
def test_the_protocols_name_and_hash_are_shown_with_the_number(write_config, tmp_path, capsys):
    main(["--config", str(write_config(limit=2)), "--protocol", "paper"])
    report = json.loads(EvalDir(tmp_path / "answers").report("json").read_text())
    assert report["protocol"]["name"] == "paper"
    assert f"[protocol paper {report['protocol']['hash']}]" in capsys.readouterr().out
    written = EvalDir(tmp_path / "answers").report("md").read_text()
    assert "- protocol: open world, protocol paper\n" in written
    assert f"- protocol hash: {report['protocol']['hash']}\n" in written


def test_a_preset_may_set_the_precision_and_nothing_else_except_the_protocol(tmp_path, write_config):
    file = tmp_path / "own.yaml"
    file.write_text("dtype: fp16\nprotocol: {match: word}\n")
    config, _ = load_config(EvalConfig, write_config(), preset_overrides(str(file)))
    assert (config.dtype, config.protocol.match) == ("fp16", "word")
    file.write_text("limit: 3\nprotocol: {match: word}\n")
    with pytest.raises(ConfigError, match="sets 'limit'"):
        preset_overrides(str(file))
