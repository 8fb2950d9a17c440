"""Linear probing from config to numbers: states are the last layer's; no kill, split or bad image changes them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlavaForConditionalGeneration

from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.probe import TABLE_10, ProbeConfig
from data_prep.sample import Turn
from eval.models.hidden_state_file import RowFormat, RowWriter
from eval.models.hidden_states import HiddenStatePredictor, LanguageModelStates
from eval.probes.accuracy import probe
from eval.probes.extraction import states_configs
from eval.probes.store import StoredStates, open_states
from eval.probing import main
from eval.runner.predictions import read_records
from eval.tasks.presets import preset_overrides
from train.models.loading import load_model

ROOT = Path(__file__).resolve().parents[2]
QUESTION = (Turn("human", "<image>\nWhat type of object is in this photo?"),)
PLACES = TABLE_10


@pytest.fixture
def write_config(write_config):
    """An evaluation whose probes have the positions of Table 10."""
    return lambda **settings: write_config(
        **settings | {"probe": {"token_positions": list(PLACES)} | settings.get("probe", {})}
    )


def stored(count, seed, tokens=700):
    """States of four classes that differ, in memory, at all places."""
    drawn = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=drawn)
    centres = torch.randn(4, len(PLACES), 8, generator=torch.Generator().manual_seed(9))
    states = (centres[labels] + 2 * torch.randn(count, len(PLACES), 8, generator=drawn)).half()
    hashes = np.random.default_rng(seed).integers(0, 2**63, count, dtype=np.uint64)
    numbers = np.arange(count)
    return StoredStates(
        RowFormat(PLACES, 8), labels, hashes, np.full(count, tokens), [states.numpy()], 0 * numbers, numbers, []
    )


def features(config_file, overrides=()):
    """(ids, states, labels) of the training source, as training reads them."""
    config, _ = load_config(EvalConfig, config_file, ["probe_source=pets", *overrides])
    source = states_configs(config)[0]
    found = open_states(EvalDir(Path(source.output)), source.limit, 15)
    return found.hashes, found.read(torch.arange(len(found)), range(len(found.row_format.positions))), found.labels


def test_features_are_the_states_that_plain_transformers_gives(tiny_model, picture, write_config, tmp_path):
    config, _ = load_config(EvalConfig, write_config())
    source = LanguageModelStates(load_model(str(tiny_model), None, "fp32", "sdpa"), config)
    prompts = [source.prompt(QUESTION, picture(1)), source.prompt((Turn("human", "Identify"),), None)]
    ours = source.states(prompts)
    model = LlavaForConditionalGeneration.from_pretrained(tiny_model, dtype=torch.float32)
    for row, prompt in enumerate(prompts):
        image = {}
        if prompt.image is not None:
            image["pixel_values"] = source.predictor.images.pixels.normalize(
                torch.from_numpy(prompt.image.arrays["pixels"])[None]
            )
        with torch.inference_mode():
            ids = torch.tensor([prompt.input_ids])
            states = model(input_ids=ids, **image, output_hidden_states=True).hidden_states[-1][0]
        for place, name in enumerate(PLACES):
            if name == "mean":
                assert ours[row, place] == pytest.approx(states.mean(0), abs=1e-4)
            elif -len(states) <= int(name) < len(states):
                assert ours[row, place] == pytest.approx(states[int(name)], abs=1e-4)
            else:
                assert not ours[row, place].any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chosen", "protocol", "epochs"),
    [
        ({}, "paper", 500),
        ({}, "official", 100),
        ({"epochs": 7}, "official", 7),
        ({"official_epochs": None}, "official", 500),
    ],
)
def test_the_authors_epochs_are_those_of_their_protocol_unless_others_are_given(write_config, chosen, protocol, epochs):
    file = write_config(probe={"official_epochs": 100} | chosen)
    config, _ = load_config(EvalConfig, file, ["probe_source=pets", *preset_overrides(protocol)])
    assert states_configs(config)[0].probe.epochs == epochs


@pytest.mark.parametrize(("short", "count"), [(0, 100), (1, 50)])
def test_places_that_a_question_of_either_source_lacks_are_left_out_and_counted(short, count):
    parts = [stored(100, 1), stored(50, 2)]
    parts[short].tokens[:] = 450
    result = probe(*parts, ProbeConfig(epochs=3))
    assert set(result["token_positions"]) == set(PLACES) - {"500", "600"}
    assert result["left_out"] == {"500": count, "600": count}
    assert (result["train"], result["val"]) == (90, 10)


def test_streamed_from_the_disk_heads_are_those_of_memory():
    train, test = stored(1300, 1), stored(50, 2)
    kept, streamed = (probe(train, test, ProbeConfig(epochs=3, memory_gib=gib)) for gib in (1, 1e-6))
    assert (kept.pop("kept_in_memory"), streamed.pop("kept_in_memory")) == (True, False)
    assert kept == streamed


def test_the_authors_number_says_that_it_looked_at_the_test_items():
    train, test = stored(200, 1), stored(50, 2)
    authors, ours, last = (
        probe(train, test, ProbeConfig(epochs=9, choose_epoch=how)) for how in ("best_on_test", "held_out", "last")
    )
    assert authors["chosen"] == "best epoch on the test items themselves"
    assert "test" not in ours["chosen"]
    assert (authors["train"], authors["val"], ours["val"]) == (200, 0, 20)
    for place in PLACES:
        best = authors["token_positions"][place]
        assert best["last_epoch"] == last["token_positions"][place]["accuracy"]
        assert best["accuracy"]["value"] >= best["last_epoch"]["value"]
    assert any(found["accuracy"] != found["last_epoch"] for found in authors["token_positions"].values())
    assert {found["epoch"] for found in last["token_positions"].values()} == {9}


def test_what_is_held_out_depends_on_ids_and_seed_and_not_on_the_order_of_storing():
    train, test = stored(200, 1), stored(50, 2)
    turned = StoredStates(
        train.row_format, train.labels.flip(0), train.hashes[::-1].copy(), train.tokens, train.files, train.file_of,
        train.rows[::-1].copy(), [],
    )  # fmt: skip
    first, second, third = (
        probe(part, test, ProbeConfig(epochs=5, seed=seed)) for part, seed in ((train, 0), (turned, 0), (train, 1))
    )
    assert first == second != third


def test_a_model_is_probed_from_config_to_numbers_and_loaded_once(write_config, tmp_path, capsys, monkeypatch):
    config = str(write_config())
    arguments = ["--config", config, "--train", "pets", "--epochs", "2", "--best-on-test"]
    main([*arguments, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert {"0", "-1", "mean"} <= set(result["token_positions"])
    assert result["token_positions"]["-1"]["accuracy"]["n"] == 15
    with monkeypatch.context() as patched:
        patched.setattr("eval.models.generative.load_model", None)
        main(arguments)  # from the stored states
    printed = capsys.readouterr()
    assert "epoch 1 of 2, best epoch on the test items themselves" in printed.out
    assert "answered" not in printed.err
    assert json.loads((tmp_path / "answers" / "probe.json").read_text())["token_positions"] == result["token_positions"]
    assert len(list((tmp_path / "answers" / "features").glob("pets-*"))) == 1
    main([*arguments[:-1], "--json"])
    held_out = json.loads(capsys.readouterr().out)["protocol"]
    assert re.fullmatch("[0-9a-f]{12}", held_out["hash"])
    assert result["protocol"]["name"] == held_out["name"] and result["protocol"]["hash"] != held_out["hash"]


def test_stored_states_do_not_stand_for_weights_that_were_put_in_their_models_place(
    write_config, tiny_model, tmp_path, capsys
):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    arguments = ["--config", str(write_config(model=str(model))), "--train", "pets", "--epochs", "1"]
    main(arguments)
    loaded = LlavaForConditionalGeneration.from_pretrained(model)
    loaded.lm_head.weight.data += 1
    loaded.save_pretrained(model)
    for more in (["--report-only"], []):
        with pytest.raises(SystemExit):
            main([*arguments, *more])
        assert "holds answers of other weights: model was" in capsys.readouterr().err


@pytest.mark.slow
def test_heads_are_not_trained_on_one_models_states_and_tested_on_anothers(write_config, tiny_model, tmp_path, capsys):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    config = write_config(model=str(model), source="quiz")
    data = load_config(EvalConfig, config)[0].data
    shards = shutil.copytree(data.shards, tmp_path / "shards")
    shutil.rmtree(shards / "quiz")
    shutil.copytree(shards / "pets", shards / "quiz")
    arguments = ["--config", str(config), "--set", f"data.shards={shards}", "--train", "pets", "--epochs", "1"]
    arguments += ["--set", "data.sources.quiz.reader=image_folder"]
    arguments += ["--set", f"data.sources.quiz.path={data.sources['pets'].path}"]
    main(arguments)
    loaded = LlavaForConditionalGeneration.from_pretrained(model)
    loaded.lm_head.weight.data += 1
    loaded.save_pretrained(model)
    for source in ("pets", "quiz"):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main(arguments)
        (folder,) = (tmp_path / "answers" / "features").glob(f"{source}-*")
        assert f"{folder} holds answers of other weights: model was" in capsys.readouterr().err
        shutil.rmtree(folder)
    main(arguments)


@pytest.mark.slow
def test_two_killed_processes_go_on_to_the_states_of_an_uninterrupted_run(write_config, tmp_path):
    main(["--config", str(write_config(batch_size=2)), "--train", "pets", "--epochs", "2"])
    expected = features(write_config(batch_size=2))
    config = write_config(batch_size=2, output=str(tmp_path / "killed"))
    arguments = ["--config", str(config), "--train", "pets", "--epochs", "2"]
    command = [sys.executable, "tests/eval/killed_evaluation.py", "eval.probing", *arguments, "--processes", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    killed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, start_new_session=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = EvalDir(Path(states_configs(load_config(EvalConfig, config, ["probe_source=pets"])[0])[0].output))
    done = read_records(folder).predictions
    assert 0 < len(done) < 15
    main(arguments)  # by one process: how many there are changes no state
    found = features(config)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    first, second = (
        json.loads((tmp_path / name / "probe.json").read_text())["token_positions"] for name in ("killed", "answers")
    )
    assert first == second


def test_array_tasks_share_the_items_and_one_command_trains(write_config, tmp_path, capsys):
    arguments = ["--config", str(write_config(batch_size=2)), "--train", "pets", "--epochs", "1"]
    main([*arguments, "--worker", "1", "--workers", "2"])
    assert not (tmp_path / "answers" / "probe.json").exists()
    with pytest.raises(SystemExit):
        main([*arguments, "--report-only"])
    assert "lacks the states of 8 of 15 items" in capsys.readouterr().err
    main([*arguments, "--worker", "0", "--workers", "2"])
    main([*arguments, "--report-only"])
    assert "14 items to train on, 1 held out" in capsys.readouterr().out


def test_a_broken_image_is_named_and_counted_and_never_scored(write_config, tmp_path, capsys):
    config = write_config()
    shards = Path(load_config(EvalConfig, config)[0].data.shards)
    shutil.copytree(shards, tmp_path / "shards")
    tar = sorted((tmp_path / "shards" / "pets").glob("*.tar"))[0]
    whole = bytearray(tar.read_bytes())
    start = whole.index(b"\xff\xd8\xff")
    whole[start : start + 300] = bytes(300)
    tar.write_bytes(whole)
    arguments = ["--config", str(config), "--set", f"data.shards={tmp_path / 'shards'}", "--train", "pets"]
    main([*arguments, "--epochs", "1"])
    printed = capsys.readouterr()
    result = json.loads((tmp_path / "answers" / "probe.json").read_text())
    assert [len(failures) for failures in result["failures"].values()] == [1]  # pets are both sources here
    assert result["failures"]["pets"][0]["id"] in printed.out
    assert "1 items without states are excluded" in printed.out
    assert result["token_positions"]["-1"]["accuracy"]["n"] == 14
    assert result["train"] + result["val"] == 14


def test_a_state_that_fp16_cannot_hold_fails_by_name(tmp_path):
    class Source:
        row_format = RowFormat(("-1", "9"), 2)

        def tokens(self, prompt):
            return prompt

        def states(self, prompts):
            return torch.tensor([[[1.0, 2.0], [0.0, torch.nan]], [[1e6, 2.0], [0.0, 0.0]]])

    answers = HiddenStatePredictor(Source(), EvalDir(tmp_path)).predict([[7, 8], [7]])
    assert answers[0].scores.endswith(":0")  # place 9 is not there, and not looked at
    assert answers[1].reason == "its state at position -1 is not finite in fp16"


@pytest.mark.slow
def test_states_serve_the_question_they_were_made_with_alone(write_config, tmp_path, capsys):
    arguments = ["--train", "pets", "--epochs", "1"]
    main(["--config", str(write_config()), *arguments])
    first = features(write_config())[1]
    main(["--config", str(write_config(protocol={"match": "exact", "max_new_tokens": 3})), *arguments])
    assert len(list((tmp_path / "answers" / "features").glob("pets-*"))) == 1, "no state depends on these"
    other = write_config(protocol={"prompt": "identify"})
    main(["--config", str(other), *arguments])
    second = features(other)[1]
    assert not torch.equal(first, second)
    main(["--config", str(write_config()), *arguments, "--set", "probe.token_positions=[-1,mean]"])
    assert torch.equal(features(write_config(), ["probe.token_positions=[-1,mean]"])[1], first[:, -2:])


def test_rows_of_a_torn_write_are_read_by_ignore_progress(tmp_path):
    folder = EvalDir(tmp_path)
    writer = RowWriter(folder, RowFormat(("-1", "mean"), 3))
    names = writer.append(torch.arange(12.0).reshape(2, 2, 3).half())
    file = tmp_path / names[0].split(":")[0]
    with file.open("ab") as stream:
        stream.write(b"half a row")
    lines = [
        {"id": f"item {n}", "prompt_hash": "", "target": "cat", "label": n, "label_name": "cat", "choices": []}
        | {"answer": "", "num_tokens": 9, "stopped": True, "seconds": 0.1, "scores": name}
        for n, name in enumerate(names)
    ]
    folder.predictions(0).write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = open_states(folder, None, 2)
    order = found.labels.argsort()
    assert torch.equal(found.read(order, [0, 1]), torch.arange(12.0).reshape(2, 2, 3).half())
    assert torch.equal(found.read(order, [1]), torch.arange(12.0).reshape(2, 2, 3)[:, 1:].half())


@pytest.mark.slow
def test_a_disk_that_is_too_small_is_refused_with_both_figures(write_config, tmp_path, capsys, monkeypatch):
    usage = namedtuple("usage", "total used free")
    arguments = ["--config", str(write_config()), "--train", "pets"]
    main([*arguments, "--dry-run"])
    told = capsys.readouterr().out
    assert "15 items, 0 stored; 11 x 48 numbers an item, 15.5 KiB" in told
    assert "kept in memory" in told
    main([*arguments, "--dry-run", "--set", "probe.memory_gib=1e-6"])
    assert "read again from the disk in every epoch" in capsys.readouterr().out
    assert not (tmp_path / "answers").exists()
    monkeypatch.setattr("data_prep.disk_space.shutil.disk_usage", lambda path: usage(10, 9, 1000))
    with pytest.raises(SystemExit):
        main(arguments)
    error = capsys.readouterr().err
    assert "the states of 30 items take 30.9 KiB" in error
    assert "has 1,000 bytes free" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "probe_source is not set"),
        (["--train", "pets", "--workers", "2"], "--workers 2 needs --worker"),
        (["--train", "pets", "--set", "model=api:gpt"], "gives no hidden states"),
        (["--train", "pets", "--set", "probe.token_positions=[first]"], "'first'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(write_config, capsys, arguments, message):
    with pytest.raises(SystemExit) as left:
        main(["--config", str(write_config()), *arguments])
    assert left.value.code == 2
    assert message in capsys.readouterr().err


def test_probing_needs_its_arguments(capsys):
    with pytest.raises(SystemExit) as left:
        main([])
    assert left.value.code == 2
    assert "--config" in capsys.readouterr().err
