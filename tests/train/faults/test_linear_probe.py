"""A run with a linear probe: killed and resumed, exported for plain transformers, and evaluated as it was trained."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration

from configs.errors import RunError
from configs.run_dir import ExportDir
from data_prep.shards import ShardSet
from eval import run
from tests.overrides import overrides_of
from train.checkpoints.reading import newest_checkpoint
from train.models.linear_probe import PROBE
from train.plan import make_plan
from train.resume import open_run

pytestmark = pytest.mark.slow

SETTINGS = {
    "train__max_steps": 4,
    "checkpoint__every": 2,
    "checkpoint__export": "true",
    "loss__probe": 1.0,
    "optim__lr_probe": 0.05,
    "model__mode": "lora",
}
KILL = {"rank": 0, "stage": "update", "step": 3, "do": "kill"}


@pytest.fixture(scope="module")
def probed(rank_forker):
    """A run of four steps, and the same killed in its third step and resumed."""
    straight = rank_forker.start("probe_straight", ranks=1, **SETTINGS)
    killed = rank_forker.start("probe_killed", dict(KILL), ranks=1, **SETTINGS)
    straight.ended()
    killed.ended()
    assert killed.codes == {0: -9}, killed.text()[-3000:]
    resumed = rank_forker.start("probe_killed", ranks=1, resume=True, **SETTINGS)
    resumed.ended()
    for ranks in (straight, resumed):
        assert ranks.codes == {0: 0}, ranks.text()[-3000:]
    return straight, resumed


def test_a_killed_run_continues_bit_for_bit_and_records_the_probes_loss(probed):
    straight, resumed = probed
    assert resumed.hexes() == straight.hexes()
    checkpoints = [newest_checkpoint(ranks.run)[0] for ranks in probed]
    weights = [checkpoint.weights() for checkpoint in checkpoints]
    assert {f"{PROBE}.token.vector", f"{PROBE}.head.weight", f"{PROBE}.head.bias"} <= weights[0].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    records = [json.loads(line) for line in straight.run.metrics.read_text().splitlines()]
    losses = [record["probe_loss"] for record in records]
    classes = len(checkpoints[0].state["probe"]["classes"])
    assert losses[0] == pytest.approx(torch.tensor(float(classes)).log().item(), rel=1e-5)
    assert losses[-1] != pytest.approx(losses[0], rel=1e-3)
    assert records[-1]["lr"].keys() == {"projector", "language", "probe"}


def test_a_probe_is_neither_added_nor_removed_nor_given_other_classes_by_a_resumption(probed, training_setup):
    settings = overrides_of(SETTINGS)
    own = ("loss.probe", "train.sources", "data.talk", "train.heldout_every")

    def resumed(*changes):
        plan = make_plan(
            training_setup.config("probe_straight", *settings, "train.heldout_every=0", *changes), 1, "cpu"
        )
        return open_run(plan, resume=True, accepted=own)

    assert resumed().step == 4
    assert resumed("loss.probe=0.5").step == 4
    with pytest.raises(
        RunError, match=r"a linear probe of 48 classes \(loss.probe\), and this run no linear probe; undo"
    ):
        resumed("loss.probe=0")


def test_plain_transformers_loads_the_export_and_the_probe_is_in_two_files_next_to_it(probed):
    export = ExportDir(probed[0].run.export)
    _, info = LlavaForConditionalGeneration.from_pretrained(export.root, output_loading_info=True)
    assert not info["unexpected_keys"]
    assert not info["missing_keys"]
    weights = newest_checkpoint(probed[0].run)[0].weights()
    stored = load_file(export.probe_weights)
    assert torch.equal(stored[f"{PROBE}.token"], weights[f"{PROBE}.token.vector"])
    assert torch.equal(stored[f"{PROBE}.weight"], weights[f"{PROBE}.head.weight"])
    described = json.loads(export.probe.read_text())
    assert described["position"] == "behind the image"
    assert stored[f"{PROBE}.bias"].shape == (len(described["classes"]),)


def test_the_trained_probe_classifies_items_and_its_scores_serve_top_five_and_calibration(
    probed, training_setup, tmp_path, capsys
):
    shards = training_setup.root / "shards"
    file = tmp_path / "probe.yaml"
    file.write_text(
        f"name: by_probe\nmodel: {probed[0].run.root}\nsource: unseen\nbatch_size: 7\nlimit: 20\n"
        f"data: {{shards: {shards}}}\nprotocol: {{task: trained_probe}}\noutput: {tmp_path}/out\n"
    )
    run.main(["--config", str(file)])
    report = json.loads(next(tmp_path.rglob("report.json")).read_text())
    assert report["items"]["expected"] == 20
    names = ShardSet.open(shards / "unseen").manifest.class_names
    assert report["class_scores"]["classes"] == len(names)
    assert report["class_scores"]["temperature_is"] == "that of the probe's softmax"
    assert report["class_scores"]["top"]["k"] == 5
    assert not report["trained"]["differences"]
    assert "% correct" in capsys.readouterr().out
    base = {
        "model": training_setup.root / "base",
        "data_from": probed[0].run.root,
        "protocol.classes": shards / "unseen",
        "output": tmp_path / "base",
    }
    with pytest.raises(SystemExit):
        run.main(
            ["--config", str(file), *(word for key, value in base.items() for word in ("--set", f"{key}={value}"))]
        )
    assert "has no linear probe" in capsys.readouterr().err
