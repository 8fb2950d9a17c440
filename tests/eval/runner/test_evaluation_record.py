"""What a folder of answers remembers: older ones stay usable, and a protocol's hash outlives new settings."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import save_file

from configs.data import DataConfig, SourceConfig
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.protocol import ProtocolConfig
from configs.run_dir import ExportDir, RunDir
from configs.section import result_fields
from eval.run import main
from eval.runner.evaluation_record import OtherAnswersError, check_answers, describe_evaluation, with_scoring
from eval.runner.unused_settings import unused_settings
from train.models.fingerprint import model_identity


def config_of(**protocol):
    data = DataConfig(sources={"pets": SourceConfig(reader="image_folder")})
    return EvalConfig(name="pets", model="m", source="pets", data=data, protocol=ProtocolConfig(**protocol))


def describe_model(**protocol):
    return describe_evaluation(config_of(**protocol), "export", "a" * 64, "b" * 64, (12, 20))


def make_older(folder: EvalDir, *settings: str) -> None:
    """evaluation.json as it was before the protocol had `settings`."""
    values = json.loads(folder.config.read_text())
    for name in settings:
        for part in (values["generation_settings"], values["scoring_settings"], values["config"]["protocol"]):
            part.pop(name, None)
    values.pop("answer_delimiter", None)
    folder.config.write_text(json.dumps(values))


NEW = (
    "image_size",
    "padding_side",
    "class_token_ids",
    "token_scores",
    "candidate_draw",
    "delete_from_label",
    "frequency_bins",
)


def test_the_hash_leaves_out_defaults_and_includes_all_other_settings():
    plain = describe_model()
    fewer = {key: value for key, value in plain.generation_settings.items() if key not in NEW}
    assert describe_model(match="contains").protocol_hash == plain.protocol_hash
    assert type(plain)(**{**vars_of(plain), "generation_settings": fewer}).protocol_hash == plain.protocol_hash
    hashes = {describe_model(**change).protocol_hash for change in ({}, {"match": "word"}, {"delete_from_label": "()"})}
    assert len(hashes) == 3


ANSWER = (
    '{"id": "a", "prompt_hash": "0", "target": "cat", "label": 0, "label_name": "cat", "choices": [], "answer": "cat", '
    '"num_tokens": 1, "stopped": true, "seconds": 0.1}\n'
)
PROTOCOLS = {
    "prefix_position": "question",
    "cfg_form": "log",
    "score_eos": True,
    "refuse_leaks": True,
    "reveal_class_style": "everywhere",
}


def test_answers_serve_a_protocol_that_differs_in_settings_without_effect_on_their_task(tmp_path):
    folder = EvalDir(tmp_path)
    folder.config.write_text(json.dumps(asdict(describe_model())))
    (tmp_path / "predictions-00000.jsonl").write_text("")
    config = config_of(**PROTOCOLS)
    assert with_scoring(folder, config).protocol_hash == describe_model(**PROTOCOLS).protocol_hash, "as if asked by it"
    for change in ({"prefix_position": "question", "answer_prefix": "A"}, {"image_order": "after"}):
        with pytest.raises(OtherAnswersError, match=r"answers to other questions.*--set name=NAME"):
            with_scoring(folder, config_of(**{**PROTOCOLS, **change}))


@pytest.mark.parametrize(
    ("task", "used"),
    [("multiple_choice", {"refuse_leaks"}), ("class_likelihood", {"score_eos", "cfg_form"}), ("mine", set(PROTOCOLS))],
)
def test_a_setting_counts_for_the_tasks_that_use_it(task, used):
    assert set(PROTOCOLS) - unused_settings({**PROTOCOLS, "task": task, "answer_prefix": ""}) == used


def test_a_refusal_for_other_weights_says_the_step_of_each(tmp_path):
    run = RunDir(tmp_path / "run")
    for step, folder in ((28, run.export_of(28)), (20, run.export)):
        folder.mkdir(parents=True)
        save_file({"weight": torch.full((2,), float(step))}, folder / "model.safetensors")
        ExportDir(folder).record.write_text(json.dumps({"step": step}))
    run.config.write_text("name: x\n")
    old, new = model_identity(run.export_of(28)), model_identity(run.export)
    was, now = (
        replace(one, model=str(run.root), generation_settings={**one.generation_settings, "model": identity})
        for one, identity in ((describe_model(), old), (describe_model(), new))
    )
    folder = EvalDir(run.evaluation("pets") / "export")
    folder.root.mkdir(parents=True)
    folder.config.write_text(json.dumps(asdict(was)))
    folder.predictions(0).write_text(ANSWER)
    with pytest.raises(OtherAnswersError) as error:
        check_answers(folder, now)
    assert f"model was {old[:12]}... (step 28) and is now {new[:12]}... (step 20)" in str(error.value)
    assert "questions" not in str(error.value), "they are the same"


def vars_of(evaluation):
    return {name: getattr(evaluation, name) for name in evaluation.__dataclass_fields__}


def test_every_setting_of_a_protocol_is_asked_or_judged():
    evaluation = describe_model()
    assert set(result_fields(ProtocolConfig())) <= {*evaluation.generation_settings, *evaluation.scoring_settings}


@pytest.mark.slow
def test_the_text_before_an_answer_is_noted_for_the_models_family(write_config, tmp_path, families, capsys):
    protocol = {"answer_after": "official"}
    for name, mark in (("blip-2", "Answer:"), ("llava_next_mistral", "[/INST]")):
        config = str(write_config(model=str(families[name]), limit=2, output=str(tmp_path / name), protocol=protocol))
        main(["--config", config])
        folder = EvalDir(tmp_path / name)
        assert json.loads(folder.config.read_text())["answer_delimiter"] == mark
        make_older(folder)
        try:
            main(["--config", config, "--report-only"])
        except SystemExit as left:
            assert left.code == 2
        assert "without --report-only" in capsys.readouterr().err
        main(["--config", config])
        main(["--config", config, "--report-only"])


def test_answers_of_an_older_version_count_while_newer_settings_have_their_defaults(write_config, tmp_path, tiny_model):
    config = str(write_config(model=str(tiny_model), limit=2))
    main(["--config", config])
    folder = EvalDir(tmp_path / "answers")
    make_older(folder, "image_order", "seed")
    main(["--config", config, "--report-only"])
    make_older(folder, "image_order", "seed")
    with pytest.raises(SystemExit):
        main(["--config", config, "--report-only", "--set", "protocol.max_new_tokens=3"])
