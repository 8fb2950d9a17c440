"""Configs: what is refused and how, where values come from, and that a saved config is the same config."""

import subprocess
import sys
from pathlib import Path

import pytest

from configs.command_line import settings_help
from configs.errors import ConfigError
from configs.evaluation import EvalConfig
from configs.layers import override_layer
from configs.load import describe, load_config, to_yaml
from configs.run import RunConfig
from configs.section import result_fields

ROOT = Path(__file__).resolve().parents[2]

RUN = """
name: run
data: {sources: {a: {reader: image_folder, path: x}, b: {reader: image_folder, path: y}}}
model: {base: some/model}
train: {sources: [a], heldout: [b]}
"""


@pytest.fixture
def config_file(tmp_path) -> Path:
    file = tmp_path / "run.yaml"
    file.write_text(RUN)
    return file


def error_of(file: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(RunConfig, file, overrides)
    assert "\n" not in str(caught.value), "one line"
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda f: f.name)
def test_every_preset_loads_opens_with_its_command_and_names_evaluations_that_load(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    config, _ = load_config(RunConfig, file)
    opening = file.read_text().split("base:")[0]
    assert f"--config configs/{file.name}" in opening
    assert config.evaluate or not opening.startswith("# deepspeed"), "a training is followed by its evaluations"
    for evaluation in config.evaluate:
        load_config(EvalConfig, Path(evaluation))


EVALUATIONS = sorted({*(ROOT / "configs/eval").glob("*.yaml")} - {ROOT / "configs/eval/open_world.yaml"})  # their base


@pytest.mark.slow
@pytest.mark.parametrize("file", EVALUATIONS, ids=lambda f: f.name)
def test_every_evaluation_loads_and_opens_with_its_command(file):
    load_config(EvalConfig, file)
    assert f"python -m eval.run --config configs/eval/{file.name}" in file.read_text().split("base:")[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("train.epocs=2", "unknown key 'train.epocs'; did you mean epochs"),
        ("lora.rank=3", "unknown key 'lora'; did you mean model.lora.rank"),
        ("rank=3", "did you mean model.lora.rank"),
        ("data.sources.a.pth=z", "valid keys of data.sources.a: reader, path, options"),
        ("train.epochs=many", "train.epochs is 'many'; it must be a whole number"),
        ("train.global_batch=0", "global_batch is 0; it must be at least 1"),
        ("model.dtype=fp8", "dtype is 'fp8'; choose one of: bf16, fp32"),
        ("model.mode=qlora", "mode is 'qlora'; choose one of: projector, lora, selective, full"),
        ("train.micro_batch=big", "micro_batch is 'big'; give a number of samples or 'auto'"),
        ("train.sources=[]", "train.sources is empty"),
        ("train.sources=[c]", "source 'c' is not in data.sources; it has: a, b"),
        ("train.heldout=[a]", "'a' is in train.sources and in train.heldout"),
        ("deepspeed.offload_param=cpu", "offload_param is cpu with zero_stage 0; it needs zero_stage: 3"),
        ("deepspeed.offload_optimizer=cpu", "offload_optimizer is cpu with zero_stage 0"),
        ("optim.warmup_ratio=1.5", "warmup_ratio is 1.5; it must be at most 1"),
        ("name=../up", "name is '../up'; use 1 to 64 letters"),
        ("name='a;b'", "use 1 to 64 letters"),
        ("nonsense", "--set 'nonsense' is not of the form key.subkey=value"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_change(config_file, override, complaint):
    assert complaint in error_of(config_file, override)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: [", "is not valid YAML"),
        ("- a", "contains a list; a config is a mapping"),
        ("name: a\nname: b\n", "found duplicate key name"),
        ("data: {shards: x}\n", "has no value; set it in the file"),
        ("name: ${oc.env:WANDB_API_KEY}\n", "secrets never belong in a config"),
        ("a: &x [1]\nb: *x\n", "uses YAML aliases"),
        ("base: run.yaml\n", "does a file name itself as its base?"),
    ],
)
def test_a_malformed_file_is_one_line(config_file, text, complaint):
    config_file.write_text(text)
    assert complaint in error_of(config_file)


def test_a_file_that_is_not_utf8_or_too_large_is_refused(config_file):
    config_file.write_bytes(b"name: \xff\n")
    assert "is not UTF-8 (byte 6)" in error_of(config_file)
    config_file.write_text("#" * 1_000_001)
    assert "a config has at most 1000000" in error_of(config_file)


def test_a_missing_file_suggests_its_neighbours(config_file):
    assert "did you mean run.yaml?" in error_of(config_file.with_name("runn.yaml"))


def test_a_file_overrides_its_base_and_the_command_line_overrides_both(config_file, tmp_path):
    child = tmp_path / "sub" / "child.yaml"
    child.parent.mkdir()
    child.write_text("base: ../run.yaml\nname: child\ntrain: {epochs: 3}\n")
    config, origins = load_config(RunConfig, child, ["train.epochs=5", "seed=2"])
    assert (config.name, config.train.epochs, config.train.sources) == ("child", 5, ("a",))
    assert origins["train.epochs"] == "--set train.epochs=5"
    assert origins["name"] == str(child)
    assert origins["optim.betas"] == "default"
    shown = describe(config, origins)
    assert "train.sources = ('a',)" in shown or "train.sources = ['a']" in shown
    assert "--set seed=2" in shown


def test_a_saved_config_loads_back_to_an_equal_one(config_file, tmp_path):
    config, _ = load_config(RunConfig, config_file, ["optim.lr_projector=1e-5", "model.mode=lora"])
    saved = tmp_path / "saved.yaml"
    saved.write_text(to_yaml(config))
    assert load_config(RunConfig, saved)[0] == config


def test_world_size_paths_and_cadences_do_not_change_the_result_and_rates_do(config_file):
    base, _ = load_config(RunConfig, config_file)
    free = ["train.micro_batch=2", "train.workers=9", "deepspeed.zero_stage=3", "checkpoint.every=1", "runs_dir=/x"]
    assert result_fields(load_config(RunConfig, config_file, free)[0]) == result_fields(base)
    bound = load_config(RunConfig, config_file, ["optim.lr_projector=1.0"])[0]
    assert result_fields(bound) != result_fields(base)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["window=64", "warmup=16", "threshold=6", "rebaseline_after=16", "accept_after=500"])
def test_what_the_monitor_detects_changes_the_result_when_it_acts_and_not_when_it_only_logs(config_file, change):
    def fields(*overrides: str) -> dict[str, object]:
        return result_fields(load_config(RunConfig, config_file, overrides)[0])

    assert fields("monitor.action=log", f"monitor.{change}") == fields("monitor.action=log")
    for action in ("skip", "rollback", "rollback_lr", "stop", "escalate"):
        acting, changed = fields(f"monitor.action={action}"), fields(f"monitor.action={action}", f"monitor.{change}")
        name = f"monitor.{change.partition('=')[0]}"
        assert {key for key in acting if acting[key] != changed[key]} == {name}


def test_the_help_documents_every_setting(config_file):
    lines = settings_help(RunConfig).splitlines()
    told = dict(zip((line.split(" = ")[0].strip() for line in lines[::2]), lines[1::2], strict=True))
    _, origins = load_config(RunConfig, config_file)
    assert set(told) >= {key for key in origins if not key.startswith("data.sources.")}
    assert all(len(doc.split()) > 1 or doc.strip().startswith("--") for doc in told.values())


def test_configs_load_without_torch():
    code = "import configs.load, configs.run, configs.evaluation, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "module"),
    [("train/finetune.py", False), ("data_prep.build", True), ("eval.run", True)],
)
def test_a_user_error_ends_an_entry_point_with_one_line_and_code_2(config_file, entry, module):
    config_file.write_text("name: a\nfoo: 1\ntrain: {}\nprotocol: {}\n")
    command = [sys.executable, *(["-m", entry] if module else [entry]), "--config", str(config_file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=0", "--set train.epochs=0: train.epochs is 0; it must be at least 1"),
        ("model.lora.rank=0", "--set model.lora.rank=0: model.lora.rank is 0; it must be at least 1"),
        ("train.micro_batch=many", "--set train.micro_batch=many: train.micro_batch is 'many'"),
    ],
)
def test_a_value_that_its_section_refuses_is_named_with_its_section_and_its_origin(override, message):
    with pytest.raises(ConfigError) as error:
        load_config(RunConfig, ROOT / "configs" / "demo.yaml", [override])
    assert str(error.value).startswith(message)


def test_a_bare_off_is_off_where_it_is_a_choice_and_false_elsewhere():
    config, _ = load_config(RunConfig, ROOT / "configs" / "demo.yaml", ["logging.wandb=off", "train.deterministic=off"])
    assert config.logging.wandb == "off"
    assert config.train.deterministic is False


@pytest.mark.parametrize("text", ["2024: Photos #1", "#1", "photos:"])
def test_a_text_after_set_keeps_what_yaml_takes_for_a_mapping_or_a_comment(text):
    assert override_layer(f"data.shards={text}")[1] == {"data": {"shards": text}}


NUMBERS = """
base: {demo}
name: 0777
slurm: {{time: 48:00:00, options: [--nice=1_0, 1_000]}}
logging: {{tags: [2023_05, x, 1e3]}}
data: {{sources: {{classification: {{reader: toy_world, path: 2023_05, options: {{images_per_class: 4_0}}}}}}}}
train: {{epochs: 1_0}}
optim: {{lr_projector: 1_0e-3}}
"""


def test_a_text_that_yaml_reads_as_a_number_is_kept_as_written_in_files_and_after_set(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(NUMBERS.format(demo=ROOT / "configs" / "demo.yaml"))
    overrides = ["model.base=2024_01", "logging.group=007", "train.global_batch=6_4"]
    config, _ = load_config(RunConfig, file, overrides)
    assert (config.name, config.model.base, config.logging.group) == ("0777", "2024_01", "007")
    assert (config.slurm.time, config.slurm.options) == ("48:00:00", ("--nice=1_0", "1_000"))
    assert config.logging.tags == ("2023_05", "x", "1e3")
    source = config.data.sources["classification"]
    assert (source.path, source.options["images_per_class"]) == ("2023_05", 40)
    assert (config.train.epochs, config.train.global_batch, config.optim.lr_projector) == (10, 64, 0.01)
    again = tmp_path / "saved.yaml"
    again.write_text(to_yaml(config))
    assert load_config(RunConfig, again)[0] == config
