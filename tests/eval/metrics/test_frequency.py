"""Class frequencies from counted text or from shard sets, together and stage by stage."""

import json
from pathlib import Path

import pytest
from scipy import stats

from configs.data import DataConfig, SourceConfig
from configs.errors import DataError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.protocol import ProtocolConfig
from eval.metrics.accuracy import ClassResult
from eval.metrics.frequency import (
    Frequencies,
    compared_classes,
    frequencies_of,
    frequency_results,
    stage_results,
    with_frequency,
)
from eval.run import main
from eval.types import Prediction, Score
from tests.eval.stored_answers import stored_answer

NAMES = ["tench", "missile", "missile", "cat"]
COUNTS = {"pretrain": [5, 7, 7, 0], "instruct": [1, 0, 0, 900]}
CLASSES = [ClassResult(0, "tench", 1, 3, 0), ClassResult(1, "missile", 2, 2, 0), ClassResult(3, "cat", 4, 0, 0)]


def config(**settings: object) -> EvalConfig:
    data = DataConfig(sources={"pets": SourceConfig(reader="image_folder")})
    return EvalConfig(name="x", model="m", source="pets", data=data, **settings)


@pytest.fixture
def counted(tmp_path) -> Path:
    file = tmp_path / "counts.json"
    sources = {stage: {"occurrences": counts, "records": counts} for stage, counts in COUNTS.items()}
    file.write_text(json.dumps({"class_names": NAMES, "rules": {"plain": sources}}))
    return file


def test_counts_of_a_file_are_added_up_and_each_stage_is_separate(counted):
    frequencies = frequencies_of(config(frequency_file=str(counted)))
    assert [c.frequency for c in with_frequency(CLASSES, frequencies)] == [6, 7, 900]  # a shared name is not doubled
    only = frequencies_of(config(frequency_file=str(counted), frequency_sources=("instruct",)))
    assert [c.frequency for c in with_frequency(CLASSES, only)] == [1, 0, 900]


def test_correlations_of_all_and_of_each_stage_agree_with_scipy(counted):
    frequencies = frequencies_of(config(frequency_file=str(counted)))
    accuracy = [c.rate.value for c in CLASSES]
    stages = {"pretrain": [5, 7, 0], "instruct": [1, 0, 900]}
    for stage, found in stage_results(CLASSES, frequencies).items():
        assert found["spearman"] == pytest.approx(stats.spearmanr(stages[stage], accuracy).statistic)
        assert found["pearson"] == pytest.approx(stats.pearsonr(stages[stage], accuracy).statistic)
    both = frequency_results(with_frequency(CLASSES, frequencies))
    assert both["pearson"] == pytest.approx(stats.pearsonr([6, 7, 900], accuracy).statistic)


def test_a_damaged_file_and_a_stage_it_lacks_are_named(counted, tmp_path):
    with pytest.raises(DataError, match=r"no counts of alignment.*pretrain, instruct"):
        frequencies_of(config(frequency_file=str(counted), frequency_sources=("alignment",)))
    with pytest.raises(DataError, match=r"has counts by plain, and protocol\.frequency_count is official"):
        frequencies_of(config(frequency_file=str(counted), protocol=ProtocolConfig(frequency_count="official")))
    counted.write_text("{}")
    with pytest.raises(DataError, match=r"data_prep\.frequency"):
        frequencies_of(config(frequency_file=str(counted)))


def test_without_either_nothing_is_known():
    assert frequencies_of(config()) is None


def answered(name: str, answer: str) -> tuple[Prediction, Score]:
    return stored_answer(answer, answer, name, label=7), Score(answer == name, None, "")


def test_names_cut_at_the_hyphen_are_other_classes_with_other_accuracies():
    scored = [
        answered("black-eyed susan", "black"), answered("black-eyed susan", "a Black bird"),
        answered("black-crowned crane", "a crane"), answered("ox", "ox"),
    ]  # fmt: skip
    assert [(c.name, c.correct, c.wrong) for c in compared_classes(scored)] == [
        ("black-crowned crane", 0, 1), ("black-eyed susan", 0, 2), ("ox", 1, 0)
    ]  # fmt: skip
    reference: dict[str, list[bool]] = {}
    for line, _ in scored:
        label = f"17-{line.label_name}".split("-")[1]  # correlation.ipynb
        reference.setdefault(label, []).append(label.lower() in line.answer.lower())
    cut = compared_classes(scored, "before_hyphen")
    assert {c.name: (c.correct, c.correct + c.wrong) for c in cut} == {
        name: (sum(right), len(right)) for name, right in reference.items()
    }
    counts = Frequencies({"pretrain": {"black-eyed susan": 5, "ox": 3}})
    assert [c.frequency for c in with_frequency(cut, counts)] == [0, 3]


def test_what_the_first_stage_does_not_name_counts_nothing_if_so_asked():
    stages = {"pretrain": {"a": 2, "b": 0}, "instruct": {"a": 5, "b": 9, "c": 4}}
    assert [Frequencies(stages).count(name) for name in "abc"] == [7, 9, 4]
    assert [Frequencies(stages, if_in_first=True).count(name) for name in "abc"] == [7, 0, 0]


@pytest.mark.slow
def test_a_report_takes_the_protocols_frequency_settings(write_config, tmp_path):
    rules = {
        "plain": {"pretrain": {"occurrences": [0, 4, 200_000]}, "instruct": {"occurrences": [50, 1, 1]}},
        "inflected": {"pretrain": {"occurrences": [0, 0, 7]}, "instruct": {"occurrences": [1, 1, 1]}},
    }
    counts = {"class_names": ["tench", "wild dog", "cat"], "rules": rules}
    file = tmp_path / "counts.json"
    file.write_text(json.dumps(counts))
    config = str(write_config(frequency_file=str(file)))
    main(["--config", config])
    report = EvalDir(tmp_path / "answers").report("json")
    plain = json.loads(report.read_text())
    changed = ("frequency_total=if_in_first", "frequency_bins=official")
    main(["--config", config, "--report-only", *(part for text in changed for part in ("--set", f"protocol.{text}"))])
    official = json.loads(report.read_text())
    assert {c["name"]: c["frequency"] for c in plain["classes"]} == {"tench": 50, "wild dog": 5, "cat": 200_001}
    assert {c["name"]: c["frequency"] for c in official["classes"]} == {"tench": 0, "wild dog": 5, "cat": 200_001}
    assert [part["name"] for part in official["frequency"]["log_bins"]] == ["0 to 9"]
    assert plain["protocol"]["hash"] != official["protocol"]["hash"]
    main(["--config", config, "--report-only", "--set", "protocol.frequency_count=inflected"])
    inflected = json.loads(report.read_text())
    assert {c["name"]: c["frequency"] for c in inflected["classes"]} == {"tench": 1, "wild dog": 1, "cat": 8}
