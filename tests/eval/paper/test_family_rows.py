"""The paper's rows on a model of each family that the paper evaluates, found by the folder's name; others have none."""

import json
import shutil
from pathlib import Path

import pytest

from data_prep import build
from eval.paper.published import paper_numbers
from eval.paper.rows import rows_of_report
from eval.reproduce import main

pytestmark = pytest.mark.slow

PAPER = {
    "blip2-opt-2.7b": ("blip-2", "BLIP2-2.7B"),
    "instructblip-vicuna-7b": ("instructblip", "IBLIP-7B"),
    "llava-v1.6-vicuna-7b-hf": ("llava_next", "LLaVANeXT-V7B"),
    "llava-v1.6-mistral-7b-hf": ("llava_next_mistral", "LLaVANeXT-M7B"),
    "Qwen3-VL-8B-Instruct": ("qwen3_vl", None),
}
DATA = "data: {{shards: {root}/shards, sources: {{flowers102_test: {{reader: image_folder, path: {root}/photos}}}}}}\n"


@pytest.fixture(scope="module")
def flowers(tmp_path_factory, picture) -> Path:
    """A folder with an evaluation of three photographs that are called Flowers102's."""
    root = tmp_path_factory.mktemp("flowers")
    for number, name in enumerate(("red", "moss", "bark")):
        (root / "photos" / name).mkdir(parents=True)
        (root / "photos" / name / "0.jpg").write_bytes(picture(number))
    data = DATA.format(root=root)
    (root / "build.yaml").write_text(f"name: b\n{data}model: {{base: none}}\ntrain: {{sources: [flowers102_test]}}\n")
    build.main(["--config", str(root / "build.yaml")])
    protocol = "protocol: {task: open_world, max_new_tokens: 2}\n"
    (root / "flowers102.yaml").write_text(
        f"name: flowers102\nmodel: none\nsource: flowers102_test\ndtype: fp32\n{data}{protocol}"
    )
    return root


@pytest.mark.parametrize("name", PAPER)
def test_a_family_of_the_paper_is_asked_and_compared_with_its_own_rows(flowers, families, monkeypatch, name):
    monkeypatch.chdir(flowers)
    family, model = PAPER[name]
    shutil.copytree(families[family], flowers / name)
    main(["--model", name, "--datasets", "flowers102.yaml", "--rows", "open", "closed", "scores", "--limit", "2"])
    (record,) = Path("runs/eval").glob(f"reproduction-*{name}-*.json")
    rows = json.loads(record.read_text())["rows"]
    assert [(row["row"], row["reason"], row["accuracy"]["n"]) for row in rows] == [
        (row, None, 2) for row in ("open", "closed", "scores")
    ]
    reports = [json.loads((Path(row["folder"]) / "report.json").read_text()) for row in rows]
    compared = {row for report in reports for row in rows_of_report(report, paper_numbers())}
    if model is None:
        assert not compared
    else:
        assert {f"table1/open_world/{model}/Flowers102", f"table1/closed_world/{model}/Flowers102"} <= compared
