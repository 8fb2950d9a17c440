"""The command: every variant is evaluated once, kept, and compared; a refused one is named."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from configs.eval_dir import EvalDir
from eval.metrics.robustness_run import collect
from eval.robustness import main
from eval.run import main as run


@pytest.mark.slow
def test_a_second_call_asks_nothing_and_gives_the_same_table(write_config, tmp_path, counted, capsys):
    (tmp_path / "names.json").write_text(json.dumps(["tench", "wild dog", "cat"]))
    protocol = {"task": "closed_world", "classes": str(tmp_path / "names.json"), "candidates": 2, "max_new_tokens": 2}
    config = ["--config", str(write_config(protocol=protocol, limit=3))]
    run(config)
    main([*config, "--seeds", "2", "--batch-sizes", "1", "--dry-run"])
    planned = capsys.readouterr().out
    assert "6 evaluations of 3 items" in planned and planned.count("0 of 3 answered") == 5
    assert planned.count("3 of 3 answered") == 1 and len(counted) == 3, "a dry run asks nothing"
    main([*config, "--seeds", "2", "--batch-sizes", "1", "--dry-run", "--json"])
    plan = json.loads(capsys.readouterr().out)
    assert [row["answered"] for row in plan["variants"]].count(0) == 5 and plan["evaluations"] == 6
    main([*config, "--seeds", "2", "--batch-sizes", "1", "--json"])
    first = json.loads(capsys.readouterr().out)
    assert len(counted) == 6 * 3, "the answers of eval.run are the base"
    assert [len(factor["values"]) for factor in first["factors"]] == [3, 2, 2, 2]
    assert first["variants"] == 6 and first["base"]["n"] == 3 and not first["notes"]
    batch = next(factor for factor in first["factors"] if factor["factor"] == "batch_size")
    assert batch["changed"]["count"] == 0, "answers do not depend on the batch"
    main([*config, "--seeds", "2", "--batch-sizes", "1", "--json"])
    assert json.loads(capsys.readouterr().out) == first and len(counted) == 6 * 3
    folder = tmp_path / "answers" / "robustness"
    assert {"robustness.json", "robustness.md", "robustness.html"} <= {path.name for path in folder.iterdir()}
    questions = {EvalDir(path.parent).root.name for path in folder.glob("*/evaluation.json")}
    assert questions == {"wording-1", "wording-2", "image_order-1", "batch_size-1", "seed-1"}


@pytest.mark.slow
def test_a_variant_that_the_model_refuses_is_named_with_its_reason(write_config, families, capsys):
    config = ["--config", str(write_config(model=str(families["blip-2"]), limit=2))]
    main([*config, "--factors", "image_order", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["factors"][0]["values"] == [] and "puts the image first" in found["factors"][0]["reason"]
    assert "image_order after is left out" in found["notes"][0]
    assert Path(found["report"]).is_file(), "the page links to the report of the base"


def test_without_answers_there_is_no_table(write_config, capsys):
    with pytest.raises(SystemExit):
        main(["--config", str(write_config()), "--report-only"])
    assert "has no evaluation yet" in capsys.readouterr().err


@pytest.mark.slow
def test_images_without_a_label_are_left_out_and_are_no_missing_items(store_answers, tmp_path):
    _, config, _ = store_answers({"tench": ["tench", "cat"], "cat": ["cat"]})
    (tmp_path / "labels.json").write_text(json.dumps({"tench/0": "tench", "tench/1": [], "cat/0": "cat"}))
    found = collect(replace(config, protocol=replace(config.protocol, labels=str(tmp_path / "labels.json"))), ())
    assert (found["base"]["count"], found["base"]["n"], found["notes"]) == (2, 2, [])
