"""What a folder of answers remembers: older ones stay usable, and a protocol's hash outlives new settings."""

import json

import pytest

from configs.data import DataConfig, SourceConfig
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.protocol import ProtocolConfig
from configs.section import result_fields
from eval.run import main
from eval.runner.evaluation_record import describe_evaluation


def describe_model(**protocol):
    data = DataConfig(sources={"pets": SourceConfig(reader="image_folder")})
    config = EvalConfig(name="pets", model="m", source="pets", data=data, protocol=ProtocolConfig(**protocol))
    return describe_evaluation(config, "export", "a" * 64, "b" * 64, (12, 20))


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
