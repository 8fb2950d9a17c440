"""The command that scores an image's classes: equal to plain transformers, one whole forward a class."""

import json
import math
import shutil

import pytest
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration

from configs.protocol import ProtocolConfig
from data_prep.sample import Turn
from eval.class_scores.rules import Rule
from eval.class_scoring import main
from eval.models.class_likelihood.scorer import ClassScorer
from eval.models.generate import TextPredictor
from eval.score_one_image import as_text
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


def test_a_person_reads_the_generated_answer_first_and_then_two_rules_with_probabilities(run, capsys, tiny_model):
    result = run()
    first, empty, head, *rows = as_text(result, Rule("sum")).splitlines()
    assert first.startswith(f"answer: {result['answer']!r}, which names ")
    assert (empty, head.split()) == ("", ["probability", "log", "per", "token", "log", "tokens", "class"])
    assert len([row for row in rows if row.endswith("tench")]) == 1
    for entry in result["classes"]:
        assert entry["probability"] == pytest.approx(math.exp(sum(entry["logprobs"])))
    assert any("note: 'red moss' begins 'red moss bark'" in row for row in rows)
    ended = run("--score-eos")
    assert [len(entry["tokens"]) for entry in ended["classes"]] == [2, 3, 3, 2, 3, 3, 4]
    assert "begins" not in as_text(ended, Rule("sum"))


def test_a_note_says_that_a_sum_favours_short_names_where_the_rules_disagree():
    def entry(name: str, logprobs: list[float]) -> dict:
        return {
            "name": name,
            "tokens": [hash(name), *range(1, len(logprobs))],
            "logprobs": logprobs,
            "score": sum(logprobs),
        }

    result = {
        "answer": "the birds ( garden wild )",
        "classes": [entry("Dogs", [-1.0]), entry("birds (garden & wild)", [-0.5] * 4)],
    }
    text = as_text(result, Rule("sum"))
    assert text.startswith("answer: 'the birds ( garden wild )', which names the class birds (garden & wild)\n")
    assert "'Dogs' has the highest probability (--rule sum), 'birds (garden & wild)' the highest mean per token" in text
    assert "The names have 1 to 4 tokens, and a sum favours short names" in text
    assert "36.79 %" in text and "13.53 %" in text and "60.65 %" in text
    nothing = as_text(result | {"answer": None, "no_answer": "too long"}, Rule("sum"))
    assert nothing.startswith("no answer: too long\n")


def test_a_damaged_picture_is_named_before_the_model_is_loaded(picture, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("eval.score_one_image.load_model", lambda *_: pytest.fail("loaded"))
    file = tmp_path / "cut.jpg"
    file.write_bytes(picture(3)[:-80])
    with pytest.raises(SystemExit):
        main(["--model", "train/assets/tiny_llava", "--image", str(file), "--prompt", PROMPT, "--classes", "cifar10"])
    shown = capsys.readouterr().err
    assert "loading PyTorch and train/assets/tiny_llava ..." in shown
    assert f"the image {file}: does not decode" in shown


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
