"""Mistakes in settings are named in the program's own words, whatever kind they are."""

import re
from pathlib import Path

import pytest

from configs.errors import ConfigError
from configs.evaluation import EvalConfig
from configs.kinds import kind_of
from configs.layers import file_layers
from configs.load import load_config
from configs.run import RunConfig
from data_prep import build
from eval import run as evaluation

ROOT = Path(__file__).resolve().parents[2]
RUN = "name: r\nmodel: {base: b}\ntrain: {sources: [a]}\ndata: {sources: {a: {reader: toy_world}}}\n"
LIBRARY = re.compile(
    r"omegaconf|DictConfig|ListConfig|TupleConfig|full_key|object_type|not Optional|could not be converted|"
    r"Incompatible|subclass|Interpolation|interpolation|<unicode string>|Traceback"
)

FILES = {
    "a missing setting": (RUN + "seed: ${nothing.here}\n", r"seed is '\$\{nothing\.here\}', which has no value"),
    "a missing variable": (RUN + "runs_dir: ${oc.env:NO_SUCH_ONE}\n", r"runs_dir is .*set environment variable"),
    "an unknown resolver": (RUN + "runs_dir: ${foo:bar}\n", r"runs_dir is '\$\{foo:bar\}', which has no value"),
    "an unfinished reference": (RUN + "runs_dir: ${foo\n", r"a value has `\$\{` without"),
    "a circle": (
        RUN + "runs_dir: ${logging.entity}\nlogging: {entity: '${runs_dir}'}\n",
        r"is '\$\{.*which has no value",
    ),
    "a reference of another type": (RUN + "seed: ${name}\n", r"seed is '\$\{name\}', whose value is of another type"),
    "a reference in a list": (RUN + "evaluate: ['${zz}']\n", r"evaluate is '\$\{zz\}', which has no value"),
    "a reference in options": (
        RUN.replace("toy_world", "toy_world, options: {prompt: '${zz}'}"),
        r"data\.sources\.a\.options\.prompt is '\$\{zz\}', which has no value",
    ),
    "a section for a section": (RUN + "optim: ${loss}\n", r"optim is '\$\{loss\}', whose value is of another type"),
    "a text for a number": (RUN + "seed: abc\n", r"seed is 'abc'; it must be a whole number"),
    "a fraction for a whole number": (RUN + "seed: 1.5\n", r"seed is 1\.5; it must be a whole number"),
    "true for a number": (RUN + "seed: yes\n", r"seed is true; it must be a whole number"),
    "true for a text": (RUN + "runs_dir: yes\n", r"runs_dir is true; it must be a text, in quotes: 'true'"),
    "a mapping for a number": (RUN + "seed: {a: 1}\n", r"seed is \{'a': 1\}; it must be a whole number"),
    "a list for a section": (RUN + "optim: [a]\n", r"optim is \['a'\]; it must be a section of settings"),
    "nothing for a section": (RUN + "optim:\n", r"optim has no value; it must be a section of settings"),
    "nothing for a number": (RUN + "seed: null\n", r"seed has no value; it must be a whole number"),
    "a text for a list": (RUN + "evaluate: a.yaml\n", r"evaluate is 'a\.yaml'; it must be a list, each entry a text"),
    "a mapping for a list": (RUN + "evaluate: {a: 1}\n", r"evaluate is \{'a': 1\}; it must be a list"),
    "nothing in a list": (RUN + "evaluate: [null]\n", r"evaluate\[0\] has no value; it must be a text"),
    "a mapping in a list": (RUN + "evaluate: [{a: 1}]\n", r"evaluate\[0\] is \{'a': 1\}; it must be a text"),
    "too few entries": (RUN + "optim: {betas: [0.9]}\n", r"optim\.betas has 1 entries; it must be a list of 2"),
    "a number for a source": (RUN.replace("{reader: toy_world}", "5"), r"data\.sources\.a is 5; it must be a section"),
    "a list of sources": (RUN.replace("{a: {reader: toy_world}}", "[a]"), r"data\.sources is \['a'\]; .* mapping"),
    "a text in a table of numbers": (
        RUN.replace("[a]", "[a], passes_per_epoch: {a: x}"),
        r"train\.passes_per_epoch\.a is 'x'; .* number",
    ),
    "no number": (RUN + "optim: {lr_projector: .nan}\n", r"optim\.lr_projector is nan; it must be a finite number"),
    "infinity": (RUN + "optim: {lr_projector: .inf}\n", r"optim\.lr_projector is inf; it must be a finite number"),
    "a key twice": (RUN + "seed: 1\nseed: 2\n", r"not valid YAML: line 6, column 1: found duplicate key seed"),
    "a tab": (RUN + "optim:\n\teps: 1\n", r"line 6, column 1: .*; a line is indented by a tab: use spaces"),
    "a second document": (RUN + "---\nname: y\n", r"a second document begins there"),
    "an open bracket": (RUN + "optim: {eps: 1\n", r"not valid YAML: line \d+, column \d+: expected ','"),
    "two colons": (RUN + "runs_dir: a: b\n", r"line 5, column 12: mapping values are not allowed here"),
    "a list as file": ("- a\n- b\n", r"contains a list; a config is a mapping of settings"),
    "a text as file": ("hello\n", r"contains a single value; a config is a mapping of settings"),
    "nothing as file": ("", r"name has no value; set it in the file"),
    "a set": (RUN + "runs_dir: !!set {a}\n", r"holds a value that no setting has"),
    "bytes": (RUN + "runs_dir: !!binary aGVsbG8=\n", r"runs_dir is b'hello'; it must be a text"),
    "null as key": (RUN + "null: 2\n", r"has a key that is not text"),
    "a list as key": (RUN + "[a]: 2\n", r"found unhashable key"),
    "a zero character": (RUN + "runs_dir: a\x00b\n", r"a character that is not allowed \(character \d+\)"),
    "a base that is a list": ("base: [a.yaml]\n" + RUN, r"base is \['a\.yaml'\]; give one YAML file"),
    "a base that is a number": ("base: 5\n" + RUN, r"base is 5; give one YAML file"),
    "a base that is empty": ("base: ''\n" + RUN, r"base is ''; give one YAML file"),
    "a base that is a folder": ("base: .\n" + RUN, r"base is '\.'; .* is a folder; name a YAML file in it"),
    "a base that is not there": ("base: nowhere.yaml\n" + RUN, r"base is 'nowhere\.yaml'; no config file"),
}

SETTINGS = {
    "a=": r"unknown key 'a'; .*valid keys",
    "a": r"--set 'a' is not of the form key\.subkey=value",
    "=": r"not of the form key\.subkey=value",
    "seed=": r"seed has no value; it must be a whole number",
    "train=5": r"train is 5; it must be a section of settings",
    "train.epochs.y=3": r"train\.epochs is \{'y': 3\}; it must be a whole number",
    "evaluate=[a": r"the value is not valid YAML \(line 2, column 1: .*\); quote it",
    "train..epochs=3": r"'train\.\.epochs' is no setting's name",
    ".seed=3": r"'\.seed' is no setting's name",
    "[]=3": r"'\[\]' is no setting's name",
    "train.sources[0]=x": r"'train\.sources\[0\]' is no setting's name",
    "name=a: b": r"name is 'a: b'; use 1 to 64 letters",
    "name=${x}": r"name is '\$\{x\}', which has no value",
    "name=${": r"--set 'name=\$\{' is not of the form",
    'name="': r"the value is not valid YAML",
}


def message(file: Path, *overrides: str, schema: type = RunConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(schema, file, overrides)
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("case", FILES)
def test_a_mistake_in_a_file_is_one_line_without_a_librarys_words(case: str, tmp_path: Path) -> None:
    text, expected = FILES[case]
    file = tmp_path / "config.yaml"
    file.write_text(text)
    found = message(file)
    assert re.search(expected, found), found
    assert "config.yaml" in found
    assert "\n" not in found
    assert not LIBRARY.search(found)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_mistake_on_the_command_line_is_one_line_without_a_librarys_words(setting: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(RUN)
    found = message(file, setting)
    assert re.search(SETTINGS[setting], found), found
    assert "\n" not in found
    assert not LIBRARY.search(found)


def test_values_that_can_be_read_as_their_type_still_are(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(RUN + "seed: '5'\nruns_dir: 2024\noptim: {lr_projector: 2e-5, eps: 1}\nslurm: {memory: null}\n")
    config, _ = load_config(RunConfig, file, ["train.micro_batch=auto", "checkpoint.export=0"])
    assert (config.seed, config.runs_dir, config.optim.lr_projector, config.optim.eps) == (5, "2024", 2e-5, 1.0)
    assert config.checkpoint.export is False


def test_the_config_of_a_run_is_named_as_that_by_an_evaluation_and_the_reverse() -> None:
    run, evaluated = ROOT / "configs" / "demo.yaml", ROOT / "configs" / "eval" / "demo_open_world.yaml"
    found = message(run, schema=EvalConfig)
    assert f"{run} is the config of a training run (it sets " in found
    assert "configs/eval/demo_open_world.yaml" in found
    assert "--set model=runs/NAME" in found
    assert f"{evaluated} is the config of an evaluation (it sets " in message(evaluated)
    assert kind_of(file_layers(run)) is RunConfig
    assert kind_of(file_layers(evaluated)) is EvalConfig


def test_every_shipped_file_is_recognised_for_what_it_is() -> None:
    for file in (ROOT / "configs").glob("*.yaml"):
        assert kind_of(file_layers(file)) is RunConfig, file
    for file in (
        *(ROOT / "configs" / "eval").glob("*.yaml"),
        *(ROOT / "configs" / "eval" / "reproduce").glob("*.yaml"),
    ):
        assert kind_of(file_layers(file)) is EvalConfig, file


def test_programs_exit_with_two_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(RUN)
    with pytest.raises(SystemExit) as stop:
        evaluation.main(["--config", str(file), "--dry-run"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit) as stop:
        build.main(["--config", str(file), "--set", "data.sources=[]"])
    assert stop.value.code == 2
    assert "data.sources is []; it must be a mapping" in capsys.readouterr().err
    protocol = tmp_path / "mine.yaml"
    protocol.write_text("protocol:\n\ttask: open_world\n")
    with pytest.raises(SystemExit) as stop:
        evaluation.main(["--config", str(ROOT / "configs/eval/demo_open_world.yaml"), "--protocol", str(protocol)])
    assert stop.value.code == 2
    assert "a line is indented by a tab" in capsys.readouterr().err
