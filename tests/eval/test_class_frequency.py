"""Class frequencies from counted text or from shard sets, together and stage by stage."""

import json
from pathlib import Path

import pytest
from scipy import stats

from configs.errors import DataError
from configs.schema import DataConfig, EvalConfig, SourceConfig
from eval.class_frequency import frequencies_of, frequency_results, stage_results, with_frequency
from eval.reporting.stats import ClassResult

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
    file.write_text(json.dumps({"class_names": NAMES, "sources": sources}))
    return file


def test_counts_of_a_file_are_added_up_and_each_stage_stands_alone(counted):
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
    counted.write_text("{}")
    with pytest.raises(DataError, match=r"data_prep\.frequency"):
        frequencies_of(config(frequency_file=str(counted)))


def test_without_either_nothing_is_known():
    assert frequencies_of(config()) is None
