"""Row 40: every way to hand in a bad config ends in one line that names the field, exit code 2, and nothing done."""

import contextlib
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from configs.errors import ConfigError
from configs.layers import MAX_BYTES
from configs.load import load_config
from configs.run import RunConfig

ROOT = Path(__file__).resolve().parents[2]
GOOD = b"name: test\nmodel: {base: none}\ntrain: {sources: [pets]}\ndata: {sources: {pets: {reader: toy_world}}}\n"

BAD = {
    "unknown-key": (GOOD + b"trian: {epochs: 2}\n", r"unknown key 'trian'.*train"),
    "unknown-key-inside": (GOOD + b"optim: {lr: 1}\n", r"unknown key 'optim\.lr'.*valid keys of optim: lr_projector"),
    "unknown-key-of-a-source": (
        GOOD.replace(b"reader: toy_world", b"reader: toy_world, root: x"),
        r"unknown key .*root",
    ),
    "name-of-a-source-that-is-a-truth-value": (
        GOOD.replace(b"{pets:", b"{off:"),
        r"data\.sources: YAML reads the name False as no text; put it in quotes",
    ),
    "name-of-a-source-that-is-a-number": (
        GOOD.replace(b"{pets:", b"{2023:"),
        r"data\.sources: YAML reads the name 2023 as no text; put it in quotes",
    ),
    "wrong-type": (GOOD + b"optim: {lr_projector: fast}\n", r"optim\.lr_projector"),
    "wrong-type-of-a-section": (GOOD.replace(b"{sources: [pets]}", b"3"), r"train"),
    "wrong-type-of-a-list": (GOOD.replace(b"[pets]", b"{a: 1}"), r"train\.sources"),
    "not-among-the-choices": (GOOD + b"chat: {pixels: blurred}\n", r"pixels is 'blurred'; choose one of: exact, fast"),
    "below-the-limit": (GOOD + b"checkpoint: {every: -1}\n", r"every is -1"),
    "required-value-missing": (GOOD.replace(b"name: test\n", b""), r"name has no value"),
    "duplicate-key": (GOOD + b"seed: 1\nseed: 2\n", r"duplicate key.*seed"),
    "duplicate-key-inside": (GOOD + b"optim: {eps: 1.0e-8, eps: 1.0e-9}\n", r"duplicate key.*eps"),
    "alias": (GOOD + b"optim: &a {eps: 1.0e-8}\nloss: *a\n", r"uses YAML aliases"),
    "alias-after-quotes": (GOOD + b"'optim': &a {eps: 1.0e-8}\nloss: *a\n", r"uses YAML aliases"),
    "object-tag": (
        GOOD + b"seed: !!python/object/apply:os.system ['touch ran']\n",
        r"could not determine a constructor",
    ),
    "object-tag-of-a-module": (GOOD + b"seed: !!python/name:os.system\n", r"could not determine a constructor"),
    "not-utf-8": (GOOD + "# groß\n".encode("latin-1"), r"is not UTF-8 \(byte \d+\)"),
    "utf-16": (GOOD.decode().encode("utf-16"), r"is not UTF-8"),
    "not-yaml": (GOOD + b"train: [1, 2\n", r"is not valid YAML"),
    "a-list": (b"- name\n- model\n", r"a config is a mapping"),
    "empty": (b"", r"name has no value|holds"),
    "too-large": (b"#" * (MAX_BYTES + 1), rf"at most {MAX_BYTES}"),
    "secret-from-the-environment": (GOOD + b"notes: ${oc.env:WANDB_API_KEY}\n", r"secrets never belong in a config"),
    "base-of-itself": (b"base: bad.yaml\n" + GOOD, r"bases in a row"),
    "base-of-itself-and-nothing-else": (b"base: bad.yaml\n", r"bases in a row"),
    "base-missing": (b"base: nowhere.yaml\n" + GOOD, r"no config file .*nowhere\.yaml"),
}

NAMES = {
    "newline": "a\nb",
    "sbatch-line": "a\n#SBATCH --comment=x\ntouch ran",
    "quote": "a'b",
    "double-quote": 'a"b',
    "substitution": "$(touch ran)",
    "backticks": "`touch ran`",
    "slash": "../elsewhere",
    "hidden": ".hidden",
    "space": "a b",
    "empty": "",
    "long": "a" * 65,
    "control": "a\x07b",
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(tmp_path: Path, data: bytes) -> Path:
    file = tmp_path / "bad.yaml"
    file.write_bytes(data)
    return file


@contextlib.contextmanager
def little_memory():
    """Fails if more than 20 MB are allocated within it: a file of a few kilobytes is refused before it unfolds."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_the_good_config_loads_or_the_bad_ones_show_nothing(tmp_path):
    assert load_config(RunConfig, written(tmp_path, GOOD))[0].name == "test"


@pytest.mark.slow
@pytest.mark.parametrize("row", BAD)
def test_a_bad_config_is_one_line_that_names_file_and_fault(row, tmp_path):
    data, complaint = BAD[row]
    with little_memory(), pytest.raises(ConfigError) as error:
        load_config(RunConfig, written(tmp_path, data))
    assert re.search(complaint, str(error.value), re.DOTALL), str(error.value)
    assert ("nowhere.yaml" if row == "base-missing" else "bad.yaml") in str(error.value)
    assert "\n" not in str(error.value).strip()
    assert not (tmp_path / "ran").exists()


def test_an_alias_bomb_is_refused_before_it_unfolds(tmp_path):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with little_memory(), pytest.raises(ConfigError, match="aliases"):
        load_config(RunConfig, written(tmp_path, GOOD + "\n".join(lines).encode()))


def test_an_ampersand_and_an_asterisk_in_texts_are_no_aliases(tmp_path):
    options = b"reader: toy_world, options: {question: [R &and D], prompt: a *bold word}"
    config, _ = load_config(RunConfig, written(tmp_path, GOOD.replace(b"reader: toy_world", options)))
    assert config.data.sources["pets"].options == {"question": ["R &and D"], "prompt": "a *bold word"}


@pytest.mark.slow
@pytest.mark.parametrize("row", NAMES)
@pytest.mark.parametrize("field", ["name", "source"])
def test_a_name_that_could_reach_a_shell_or_a_path_is_refused(row, field, tmp_path):
    import yaml

    values = yaml.safe_load(GOOD)
    if field == "name":
        values["name"] = NAMES[row]
    else:
        values["data"]["sources"] = {NAMES[row]: {"reader": "toy_world"}}
    with pytest.raises(ConfigError, match=r"use 1 to 64 letters, digits"):
        load_config(RunConfig, written(tmp_path, yaml.safe_dump(values).encode()))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "override", ["optim.lr=1", "optim.lr_projector=fast", "train.epochs", "=3", "name=a b", "seed=[1"]
)
def test_a_bad_override_is_named_like_a_bad_file(override, tmp_path):
    with pytest.raises(ConfigError) as error:
        load_config(RunConfig, written(tmp_path, GOOD), [override])
    assert "\n" not in str(error.value).strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    "row", ["unknown-key", "duplicate-key", "not-utf-8", "object-tag", "base-of-itself-and-nothing-else"]
)
def test_the_command_leaves_with_2_and_one_line_and_never_imports_torch(row, tmp_path):
    config = written(tmp_path, BAD[row][0])
    code = (
        "import sys; from data_prep.build import main\n"
        f"try: main(['--config', {str(config)!r}])\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert re.fullmatch(r"error: [^\n]*bad\.yaml[^\n]*\n", done.stderr), done.stderr
    assert done.stdout == "False\n"
