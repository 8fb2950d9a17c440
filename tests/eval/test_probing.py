"""Linear probing: heads trained together are those trained alone, and features are the last layer's."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import LlavaForConditionalGeneration

from configs.schema import ProtocolConfig
from data_prep.sample import Turn
from eval.predictor import Predictor
from eval.probe_heads import Options, ProbeSet, authors_loop, benchmark, benchmark_text, initial_heads, train_heads
from eval.probing import PLACES, Features, main, place_states, probe
from train.model import load_model

QUESTION = (Turn("human", "<image>\nWhat type of object is in this photo?"),)


def items(count: int, seed: int, places: int = 3, noise: float = 2.0) -> ProbeSet:
    """Features of four classes that differ, in the last place the most."""
    drawn = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=drawn)
    centres = torch.randn(4, places, 8, generator=torch.Generator().manual_seed(9))
    return ProbeSet(centres[labels] + noise * torch.randn(count, places, 8, generator=drawn), labels)


def test_heads_trained_together_are_those_of_the_authors_loop():
    train, test = items(700, 1), items(300, 2)  # two batches, the second not full
    together = train_heads(train, test, 4, 5, options=Options(test=test))
    weights, biases = initial_heads(3, 8, 4, 0)
    for place in range(3):
        head = nn.Linear(8, 4)
        head.load_state_dict({"weight": weights[place], "bias": biases[place, 0]})
        one = slice(place, place + 1)
        history = authors_loop(
            ProbeSet(train.states[:, one], train.labels), ProbeSet(test.states[:, one], test.labels), head, 5
        )
        right = [on_test for _, on_test in history]
        assert right.index(max(right)) == int(together.epochs[place])
        assert max(right) == int(together.best_on_test[place]) == int(together.right(test)[place])


def test_the_epoch_is_chosen_on_the_validation_items_alone():
    train, val, test = items(600, 1), items(60, 2), items(300, 3)
    first = train_heads(train, val, 4, 30, options=Options(test=test))
    assert (first.right(test) <= first.best_on_test).all()
    assert torch.equal(train_heads(train, val, 4, 30).weights, first.weights)


def test_bf16_products_learn_as_much():
    train, val, test = items(600, 1, noise=0.7), items(60, 2, noise=0.7), items(300, 3, noise=0.7)
    exact, fast = (train_heads(train, val, 4, 60, options=Options(dtype=d)) for d in (torch.float32, torch.bfloat16))
    assert (exact.right(test) - fast.right(test)).abs().max() <= 12
    assert exact.right(test).min() > 150  # chance is 75


def test_features_are_the_states_that_plain_transformers_gives(tiny_model, picture):
    predictor = Predictor(load_model(str(tiny_model), None, "fp32", "sdpa"), ProtocolConfig())
    prompts = [predictor.prompt(QUESTION, picture(1)), predictor.prompt((Turn("human", "Identify"),), None)]
    ours = place_states(predictor, prompts)
    model = LlavaForConditionalGeneration.from_pretrained(tiny_model, dtype=torch.float32)
    for row, prompt in enumerate(prompts):
        ids = torch.tensor([prompt.input_ids])
        image = {}
        if prompt.pixels is not None:
            image["pixel_values"] = predictor.pixels.normalise(torch.from_numpy(prompt.pixels)[None])
        with torch.inference_mode():
            states = model(input_ids=ids, **image, output_hidden_states=True).hidden_states[-1][0]
        for place, name in enumerate(PLACES):
            if name == "mean":
                assert ours[row, place] == pytest.approx(states.mean(0), abs=1e-4)
            elif -len(states) <= int(name) < len(states):
                assert ours[row, place] == pytest.approx(states[int(name)], abs=1e-4)
            else:
                assert ours[row, place].isnan().all()


def test_places_that_the_prompt_lacks_are_left_out():
    train, test = items(100, 1, places=len(PLACES)), items(50, 2, places=len(PLACES))
    train.states[:, 3] = float("nan")
    result = probe(Features(train.states.half(), train.labels), Features(test.states.half(), test.labels), 3)
    assert set(result["places"]) == set(PLACES) - {"300"}
    assert (result["train"], result["val"]) == (90, 10)
    assert result["left_out"] == {"300": 100}


def test_a_place_that_only_a_test_prompt_lacks_is_left_out_too():
    train, test = items(100, 1, places=len(PLACES)), items(50, 2, places=len(PLACES))
    test.states[7, 3] = float("nan")
    result = probe(Features(train.states.half(), train.labels), Features(test.states.half(), test.labels), 3)
    assert "300" not in result["places"]
    assert result["left_out"] == {"300": 1}


def test_a_model_is_probed_from_config_to_numbers(write_config, tmp_path, capsys):
    config = str(write_config())
    arguments = ["--config", config, "--train", "pets", "--epochs", "2", "--best-on-test"]
    main([*arguments, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert {"0", "-1", "mean"} <= set(result["places"])
    assert result["places"]["-1"]["accuracy"]["n"] == 15
    assert len(list((tmp_path / "answers").glob("probe-pets-*.safetensors"))) == 1
    main(arguments)  # from the stored features
    assert "best epoch on the test items" in capsys.readouterr().out
    assert json.loads((tmp_path / "answers" / "probe.json").read_text())["places"] == result["places"]


def test_the_benchmark_times_both_sides():
    result = benchmark(items=600, tests=300, size=16, classes=5)
    assert min(result["ratio_fp32"], result["ratio_bf16"], result["loop"]) > 0
    assert "11 heads" in benchmark_text(result)


def test_probing_needs_its_arguments(capsys):
    with pytest.raises(SystemExit) as left:
        main([])
    assert left.value.code == 2
    assert "--benchmark" in capsys.readouterr().err


def test_stored_states_serve_the_question_they_were_made_with_alone(write_config, tmp_path, capsys):
    arguments = ["--train", "pets", "--epochs", "1"]
    main(["--config", str(write_config()), *arguments])
    main(["--config", str(write_config(protocol={"prompt": "identify"})), *arguments])
    files = sorted((tmp_path / "answers").glob("probe-pets-*.safetensors"))
    first, second = (load_file(file)["states"] for file in files)
    assert not torch.equal(first.nan_to_num(), second.nan_to_num())
    assert not list((tmp_path / "answers").glob(".probe*"))


def test_a_kill_while_states_are_stored_leaves_nothing_in_the_way(write_config, tmp_path, monkeypatch, capsys):
    def killed(tensors, file):
        Path(file).write_bytes(b"half")
        raise KeyboardInterrupt

    arguments = ["--config", str(write_config()), "--train", "pets", "--epochs", "1"]
    with monkeypatch.context() as patch:
        patch.setattr("eval.probing.save_file", killed)
        with pytest.raises(KeyboardInterrupt):
            main(arguments)
    main(arguments)
    assert "items to train on" in capsys.readouterr().out
