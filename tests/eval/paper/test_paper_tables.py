"""Every table of the paper's text, cell by cell, against our data: nothing is missing and nothing is misprinted."""

import re
from pathlib import Path

import pytest

from eval.paper.published import paper_numbers

PAPER = Path(__file__).resolve().parents[4] / "shared" / "paper" / "paper.txt"
SETS = ("ImageNet", "Flowers102", "StanfordCars", "Caltech101")
PAIRS = {"table2": ("LLaVA1.5-7B", "BLIP2-2.7B"), "table12": ("LLaVA1.5-7B", "GPT4")}
ROWS = {
    "Base Prompt": "base",
    "w/ Prompt Alternative 1": "identify",
    "w/ Prompt Alternative 2": "main_object",
    "w/ Label (Fixed Order)": "fixed_order",
    "w/ Label (Random Order)": "random_order",
    "w/ Label (Random) + CoT": "random_order_cot",
    "w/ Label (Random Order) + CoT": "random_order_cot",
    "Direct Generation": "direct",
    "Prob Inference (Sum Tokens)": "sum",
    "Prob Inference (Avg Tokens)": "mean",
    "Prob Inference (Avg) w/ CFG": "cfg",
}
pytestmark = pytest.mark.skipif(not PAPER.exists(), reason="needs the paper's text")


@pytest.fixture(scope="module")
def text() -> str:
    return PAPER.read_text()


@pytest.fixture(scope="module")
def lines(text) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines() if "\t" in line]


def block(text: str, caption: str) -> list[list[str]]:
    """The lines of the table above `caption`, as cells."""
    rows: list[list[str]] = []
    for line in reversed(text[: text.index(caption)].splitlines()[-25:]):
        if "\t" in line:
            rows.insert(0, line.split("\t"))
        elif rows and line.strip():
            break
    return rows


def ours(row: str) -> float | None:
    number = paper_numbers()[row]
    scale = 100 if number.unit in ("accuracy", "points") else 1
    return None if number.value is None else number.value * scale


def is_cell(cell: str, value: float | None) -> bool:
    return cell in ("N/A", "NaN") if value is None else float(cell.rstrip("%")) == pytest.approx(value)


def experiments(name: str) -> set[str]:
    return {row.split("/")[1] for row in paper_numbers() if row.startswith(f"{name}/")}


@pytest.mark.parametrize("table", ["table2", "table12"])
def test_tables_2_and_12(text, table):
    rows = [cells for cells in block(text, f"Table {table[5:]}: ") if cells[0] in ROWS]
    assert {ROWS[cells[0]] for cells in rows} == experiments(table)
    for cells in rows:
        names = [f"{table}/{ROWS[cells[0]]}/{model}/{name}" for model in PAIRS[table] for name in SETS]
        assert all(is_cell(cell, ours(row)) for cell, row in zip(cells[1:], names, strict=True)), cells


def test_table_4(text):
    rows = block(text, "Table 4: ")[1:]
    names = ("zero_shot/LLaVA1.5-7B", "linear/CLIP-L", "classification/LLaVA1.5-7B", "captions/LLaVA1.5-7B")
    for cells, name in zip(rows, names, strict=True):
        assert all(is_cell(c, ours(f"table4/{name}/{s}")) for c, s in zip(cells[2:], SETS[1:], strict=True)), cells


def test_table_5_has_all_eighteen_numbers(lines):
    start = next(i for i, cells in enumerate(lines) if cells == ["Model", "Acc", "Model", "Acc"])
    pairs = [pair for cells in lines[start + 1 : start + 12] for pair in (cells[:2], cells[2:])]
    printed = sorted(float(value) for _, value in pairs if re.fullmatch(r"[\d.]+", value))
    found = sorted(ours(row) for row in paper_numbers() if row.startswith("table5/"))
    assert found == pytest.approx(printed)
    assert len(found) == 18


def test_table_7(text):
    sizes = {"1.28M": 1_280_000, "2.0K": 2_000, "8.1K": 8_100, "4.3K": 4_300}
    exact = re.search(r"contain ([\d,]+), ([\d,]+), ([\d,]+), and ([\d,]+) test images", text).groups()
    for cells, name, validation in zip(block(text, "Table 7: ")[1:], SETS, exact, strict=True):
        assert cells[0].startswith(name)
        assert ours(f"table7/train/items/{name}") == sizes[cells[2]]
        assert ours(f"table7/classes/items/{name}") == int(cells[4])
        assert ours(f"table7/validation/items/{name}") == int(validation.replace(",", ""))


def test_table_8(text):
    rows = block(text, "Table 8: ")[1:]
    assert len(rows) == 10
    for cells in rows:
        model = cells[0].replace("LLaVANE XT", "LLaVANeXT")
        names = [f"table8/{kind}/{model}/ImageNet" for kind in ("without_synonyms", "with_synonyms", "improvement")]
        assert all(is_cell(cell, ours(row)) for cell, row in zip(cells[1:], names, strict=True)), cells


def test_table_9(text):
    model, seen = "", 0
    for cells in block(text, "Table 9: ")[1:]:
        model = cells[0] or model
        for cell, name in zip(cells[2:], SETS, strict=True):
            assert is_cell(cell, ours(f"table9/candidates_{cells[1]}/{model}/{name}")), cells
            seen += 1
    assert seen == 48 == sum(row.startswith("table9/") for row in paper_numbers())


def test_table_10(text):
    places, accuracies = block(text, "Table 10: ")
    named = {"-1 (Last)": "-1", "Average": "mean"}
    for place, accuracy in zip(places[1:], accuracies[1:], strict=True):
        assert is_cell(accuracy, ours(f"table10/{named.get(place, place)}/LLaVA1.5-7B/Flowers102"))


def test_table_11(text):
    for cells in block(text, "Table 11: ")[1:]:
        model = cells[0].replace(" Fine-tuned on ImageNet", " finetuned")
        names = [f"table11/{kind}/{model}/{name}" for kind in ("spearman", "pearson") for name in SETS]
        assert all(is_cell(cell, ours(row)) for cell, row in zip(cells[1:], names, strict=True)), cells


def test_table_13(text):
    names = ("before/LLaVA1.5-7B", "after/LLaVA1.5-7B finetuned on ImageNet+LLaVA")
    sets = ("TextVQA", "POPE popular", "POPE adversarial", "MM-Vet")
    for cells, name in zip(block(text, "Table 13: ")[1:], names, strict=True):
        assert all(is_cell(c, ours(f"table13/{name}/{s}")) for c, s in zip(cells[1:], sets, strict=True)), cells


@pytest.mark.parametrize(
    ("sentence", "rows"),
    [
        (
            r"achieves ([\d.]+)% zero-shot accuracy on ImageNet classes with more than 10,000 occurrences in its "
            r"training data, but only ([\d.]+)% accuracy on classes with fewer than 10",
            ["figure3/above_10000/LLaVA1.5-7B/ImageNet", "figure3/below_10/LLaVA1.5-7B/ImageNet"],
        ),
        (
            r"are ([\d.]+) and ([\d.]+) for pre-training, and ([\d.]+) and ([\d.]+) for instruction tuning",
            [
                f"appendixB6/{kind}_{stage}/LLaVA1.5-7B/ImageNet"
                for stage in ("pretrain", "instruct")
                for kind in ("spearman", "pearson")
            ],
        ),
        (
            r"resulting in a ([\d.]+)x gap; for 20 classes, .* resulting in a ([\d.]+)x gap",
            [f"figure4/candidates_{count}/LLaVA1.5-7B/ImageNet" for count in (2, 20)],
        ),
        (r"compared to a ([\d.]+)x error rate with 100 classes", ["figure4/candidates_100/LLaVA1.5-7B/ImageNet"]),
        (
            r"able to achieve ([\d.]+)% accuracy on ImageNet classification compared to",
            ["section4.3/LLaVA1.5-7B finetuned on ImageNet+LLaVA/ImageNet"],
        ),
    ],
)
def test_numbers_that_stand_in_sentences(text, sentence, rows):
    found = re.search(sentence, text)
    assert found
    assert [float(value) for value in found.groups()] == pytest.approx([ours(row) for row in rows])
