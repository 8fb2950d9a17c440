"""A report says where its numbers come from, and a comparison in what two models' conditions differ."""

import doctest
import json

from configs.eval_dir import EvalDir
from data_prep.page import Page
from eval.reports import provenance
from eval.reports.provenance import provenance_blocks, provenance_differences, provenance_of

BASE = {
    "command": "python -m eval.run --config a.yaml",
    "code": {"commit": "a" * 40, "clean": True},
    "packages": {"torch": "2.13.0", "transformers": "5.17.0"},
    "python": "3.12.1",
    "host": "node1",
    "gpus": [],
    "cpus": 2,
    "start": "2026-01-01T00:00:00Z",
    "end": "2026-01-01T01:00:00Z",
    "outcome": "finished",
}


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(provenance).failed == 0
    assert doctest.testmod(provenance).attempted == 1


def test_the_starts_of_all_workers_and_of_the_training_are_found(tmp_path):
    folder = EvalDir(tmp_path)
    training = [BASE | {"world_size": 8, "hosts": {"node1": 4, "node2": 4}, "gpus": ["NVIDIA H100"] * 8}]
    exports = [BASE | {"command": "python -m train.export runs/a", "training": training}]
    folder.provenance(1).write_text(json.dumps([BASE | {"start": "2026-01-03T00:00:00Z", "exports": exports}]))
    folder.provenance(0).write_text(json.dumps([BASE | {"host": "node7", "end": None, "exports": []}]))
    found = provenance_of(folder)
    assert [start["host"] for start in found["evaluation"]] == ["node7", "node1"]
    assert found["training"] == training
    text = Page("Report", provenance_blocks(found)).markdown()
    assert "8 x NVIDIA H100" in text
    assert "node1, node2" in text
    assert "commit aaaaaaaaaaaa" in text
    assert "killed, or still running" in text
    assert "python -m train.export runs/a" in text


def test_a_report_without_records_has_no_such_section(tmp_path):
    assert provenance_blocks(provenance_of(EvalDir(tmp_path))) == []


def test_a_comparison_names_only_the_facts_that_differ():
    newer = BASE | {
        "packages": {"torch": "2.14.0", "transformers": "5.17.0"},
        "code": {"commit": "a" * 40, "clean": False},
    }
    blocks = provenance_differences({"base": [{"evaluation": [BASE]}], "mix": [{"evaluation": [newer]}]})
    text = Page("Comparison", blocks).markdown()
    assert "base: torch 2.13.0; mix: torch 2.14.0" in text
    assert "transformers" not in text
    assert "mix: commit aaaaaaaaaaaa, with uncommitted changes" in text
    assert "python" not in text
    assert provenance_differences({"base": [{"evaluation": [BASE]}], "mix": [{"evaluation": [BASE]}]}) == []


def test_one_model_that_changed_its_packages_between_two_starts_shows_both():
    newer = BASE | {"packages": {"torch": "2.14.0"}}
    blocks = provenance_differences({"base": [{"evaluation": [BASE, newer]}], "mix": [{"evaluation": [BASE]}]})
    assert "torch 2.14.0" in Page("Comparison", blocks).markdown()
