"""The command that scores an image's classes: equal to plain transformers, one whole forward a class."""

import json
import shutil

import pytest
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration

from configs.protocol import ProtocolConfig
from data_prep.sample import Turn
from eval.class_scoring import main
from eval.models.class_likelihood.scorer import ClassScorer
from eval.models.generate import TextPredictor
from train.models.loading import load_model

CLASSES = ["tench", "wild dog", "wild cat", "cat", "red moss", "wild dog", "red moss bark"]
PROMPT = "What type of object is in this photo?"
SCORED = ["--prompt", PROMPT, "--classes", "cifar10", "--json"]


@pytest.fixture
def run(tiny_model, picture, tmp_path, capsys):
    """Runs the command and returns what it prints."""
    (tmp_path / "a.jpg").write_bytes(picture(3))
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))

    def score(*extra: str) -> dict:
        arguments = ["--model", str(tiny_model), "--image", str(tmp_path / "a.jpg"), "--prompt", PROMPT]
        main([*arguments, "--classes", str(tmp_path / "classes.json"), "--json", *extra])
        return json.loads(capsys.readouterr().out)

    return score


@pytest.mark.parametrize("prefix", ["", "the photo is a"])
def test_every_class_has_the_log_probabilities_of_a_full_forward(run, tiny_model, picture, prefix):
    result = run("--answer-prefix", prefix)
    predictor = TextPredictor(load_model(str(tiny_model), None, "fp32", "sdpa"), ProtocolConfig(image_mode="export"))
    from data_prep.images import decode_rgb

    own = predictor.images.pixels
    pixels = own.normalize(torch.from_numpy(own(decode_rgb(picture(3))))[None])
    model = LlavaForConditionalGeneration.from_pretrained(tiny_model, dtype=torch.float32)
    assert [entry["name"] for entry in result["classes"]] == CLASSES
    for entry in result["classes"]:
        ids = torch.tensor([result["prefix_ids"] + entry["tokens"]])
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels).logits[0]
        at = range(len(result["prefix_ids"]) - 1, ids.shape[1] - 1)
        expected = [float(logits[t].log_softmax(-1)[n]) for t, n in zip(at, entry["tokens"], strict=True)]
        assert entry["logprobs"] == pytest.approx(expected, abs=1e-4)
    assert result["tokens_forwarded"] == len(result["prefix_ids"]) + 3  # wild, red, red moss
    sums = [sum(entry["logprobs"]) for entry in result["classes"]]
    assert result["top1"] == CLASSES[sums.index(max(sums))]


@pytest.mark.parametrize("rule", ["sum", "mean", "cfg"])
def test_top1_is_the_best_of_all_scores(run, rule):
    every, best = run("--rule", rule), run("--rule", rule, "--top1")
    scores = [entry["score"] for entry in every["classes"]]
    assert best["top1"] == every["top1"] == CLASSES[scores.index(max(scores))]
    assert best["score"] == pytest.approx(max(scores), abs=1e-5)
    assert best["nodes_expanded"] >= 0
    assert best["tokens_forwarded"] == len(best["prefix_ids"]) + best["nodes_expanded"]


def test_several_images_at_a_time_score_as_alone(tiny_model, picture):
    predictor = TextPredictor(load_model(str(tiny_model), None, "fp32", "sdpa"), ProtocolConfig())
    scorer = ClassScorer(predictor)
    from eval.models.class_likelihood.single_image import question_turns

    turns = question_turns(PROMPT)
    trie = scorer.trie(turns, tuple(CLASSES))
    prompts = [predictor.prompt(turns, picture(number)) for number in range(4)]
    together = scorer.log_probs(prompts, trie)
    for row, prompt in enumerate(prompts):
        assert together[row] == pytest.approx(scorer.log_probs([prompt], trie)[0], abs=1e-5)
    assert abs(together[0] - together[1]).max() > 1e-4  # the images do differ


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--classes", "nowhere.json"], "no class list"),
        (["--image", "nowhere.jpg"], "no image nowhere.jpg"),
        (["--model", "./nowhere"], "no model folder"),
        (["--rule", "cfg", "--guidance", "-1"], "guidance is -1.0"),
        (["--prompt", "A " * 600], "512 positions"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run, capsys, extra, message):
    with pytest.raises(SystemExit) as left:
        run(*extra)
    assert left.value.code == 2
    assert message in capsys.readouterr().err


def test_a_prior_belongs_to_its_names(tiny_model):
    scorer = ClassScorer(TextPredictor(load_model(str(tiny_model), None, "fp32", "sdpa"), ProtocolConfig()))
    turns = (Turn("human", f"<image>\n{PROMPT}"),)
    fresh = ClassScorer(scorer.predictor)
    tries = [scorer.trie(turns, names) for names in (("tench", "wild dog"), ("cat", "red moss"))]
    priors = [scorer.prior_without_image(turns, trie) for trie in tries]
    assert priors[1] == pytest.approx(fresh.prior_without_image(turns, tries[1]))
    assert priors[0] != pytest.approx(priors[1])


@pytest.mark.slow
def test_a_run_is_scored_by_its_export_and_photographs_are_turned_as_in_its_training(tmp_path, capsys):
    run, shown = tmp_path / "runs" / "mine", Image.linear_gradient("L").convert("RGB")
    shutil.copytree("train/assets/tiny_llava", run / "export")
    (run / "config.yaml").write_text("name: mine\n")
    record = run / "export" / "export.json"
    turned = shown.getexif()
    turned[0x112] = 6
    shown.save(tmp_path / "turned.png", exif=turned)
    shown.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
    scores = {}
    for exif in ("ignore", "apply"):
        record.write_text(json.dumps(json.loads(record.read_text()) | {"data": {"exif": exif}}))
        for name in ("turned", "upright"):
            main(["--model", str(run), "--image", str(tmp_path / f"{name}.png"), *SCORED])
            scores[exif, name] = [entry["score"] for entry in json.loads(capsys.readouterr().out)["classes"]]
    assert scores["apply", "turned"] == scores["apply", "upright"] == scores["ignore", "upright"]
    assert scores["ignore", "turned"] != scores["ignore", "upright"]
