"""Nearest neighbours from config to page: the states are those of linear probing, and nothing is extracted twice."""

import json

import pytest

from eval.knn import main
from eval.probing import main as probing


@pytest.mark.slow
def test_a_model_is_classified_by_neighbours_from_config_to_page(write_config, tmp_path, capsys, monkeypatch):
    config = str(write_config(knn={"k": [1, 5]}))
    probing(["--config", config, "--train", "pets", "--epochs", "1"])
    with monkeypatch.context() as patched:
        patched.setattr("eval.models.generative.load_model", None)  # from the stored states
        main(["--config", config, "--train", "pets", "--json"])
    result = json.loads(capsys.readouterr().out.partition("\n{")[2].join(["{", ""]))
    assert [(row["position"], row["k"], row["vote"]) for row in result["rows"]] == [
        (position, k, vote) for position in ("-1", "mean") for k in (1, 5) for vote in ("majority", "weighted")
    ]
    assert {row["accuracy"]["n"] for row in result["rows"]} == {15}
    assert result["data_notes"] == [
        "test and training items are both pets: no item is its own neighbour (leave-one-out)"
    ]
    page = (tmp_path / "answers" / "knn.html").read_text().replace("\u00a0", " ")
    assert "linear probe, best epoch on held-out training items" in page and "k = 5, weighted" in page
    main(["--config", config, "--train", "pets", "--report-only", "--set", "knn.metric=l2"])
    printed = capsys.readouterr().out
    assert "similarity: l2" in printed and "k = 1    majority" in printed
    again = json.loads((tmp_path / "answers" / "knn.json").read_text())
    assert again["protocol"]["hash"] != result["protocol"]["hash"]
    for elsewhere in ([], ["--set", f"output={tmp_path / 'new'}"], ["--dry-run"]):
        with pytest.raises(SystemExit) as left:
            main(["--config", config, "--train", "pets", "--set", "knn.k=[15]", *elsewhere])
        assert left.value.code == 2
        assert "knn.k has 15, and there are 14 items" in capsys.readouterr().err
    assert not (tmp_path / "new").exists(), "refused before states are extracted"


@pytest.mark.parametrize("program", [main, probing])
def test_the_settings_of_a_program_on_hidden_states_can_be_printed(program, capsys):
    config = "configs/eval/flowers102_open_world.yaml"
    with pytest.raises(SystemExit) as left:
        program(["--config", config, "--train", "flowers102_train", "--encoder", "--print-config"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert "\nprobe_source = 'flowers102_train' " in printed and "\nprobe.part = 'encoder' " in printed
