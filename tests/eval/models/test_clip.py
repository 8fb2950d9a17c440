"""CLIP zero-shot: cosines are transformers' logits, fewer candidates need no new forward, and others are refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from configs.errors import ConfigError
from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from eval.class_scores.table import decode_scores
from eval.models import clip
from eval.models.clip import ClipEvalModel
from eval.models.image_encoders import load_image_encoder, own_processor, weights_identity, with_weights
from eval.run import main
from eval.runner.predictions import read_records
from eval.tasks.registry import make_task
from eval.types import Prediction
from train.toy.clip_recipe import ClipRecipe
from train.toy.clip_training import save
from train.toy.tiny_clip_parts import build_model, build_tokenizer

NAMES = ["tench", "wild dog", "cat"]


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory) -> Path:
    """A CLIP folder with random weights, its text half not the same for all texts."""
    recipe = ClipRecipe(vision_hidden=32, vision_layers=1, text_hidden=32, text_layers=1, shared=16)
    torch.manual_seed(3)
    tokenizer = build_tokenizer(NAMES, recipe)
    folder = tmp_path_factory.mktemp("clip") / "tiny"
    save(build_model(tokenizer, recipe), tokenizer, recipe, folder)
    return folder


@pytest.fixture
def clip_config(write_config, tiny_clip, tmp_path):
    """An evaluation of the tiny CLIP on `pets`; the list holds one name twice."""
    classes = tmp_path / "names.json"
    classes.write_text(json.dumps([*NAMES, "cat"]))

    def write(model=tiny_clip, **protocol):
        return write_config(model=str(model), protocol={"task": "zero_shot", "classes": str(classes)} | protocol)

    return write


@pytest.mark.slow
def test_scores_times_the_temperature_are_the_logits_of_plain_transformers(clip_config, tiny_clip, tmp_path, picture):
    main(["--config", str(clip_config())])
    model, processor = CLIPModel.from_pretrained(tiny_clip).eval(), CLIPProcessor.from_pretrained(tiny_clip)
    records = read_records(EvalDir(tmp_path / "answers"))
    predictions = {key.removeprefix("pets/"): prediction for key, prediction in records.predictions.items()}
    assert len(predictions) == 15
    for place, folder in enumerate(("tench", "wild_dog", "cat")):
        for number in range(5):
            (tmp_path / "one.jpg").write_bytes(picture(10 * place + number))
            image = Image.open(tmp_path / "one.jpg").convert("RGB")
            texts = [f"a photo of a {name}" for name in [*NAMES, "cat"]]
            with torch.inference_mode():
                logits = model(**processor(text=texts, images=image, padding=True, return_tensors="pt"))
            stored = decode_scores(predictions[f"{folder}/{number}"].scores)
            ours = model.logit_scale.exp().item() * torch.from_numpy(stored.copy())
            assert ours.tolist() == pytest.approx(logits.logits_per_image[0].tolist(), abs=1e-4)
            assert predictions[f"{folder}/{number}"].answer == texts[int(logits.logits_per_image.argmax())][13:]
    assert len({prediction.scores for prediction in predictions.values()}) == 15, "images differ at all"


@pytest.mark.slow
def test_fewer_candidates_are_judged_from_the_same_answers(clip_config, tmp_path, monkeypatch):
    main(["--config", str(clip_config())])
    monkeypatch.setattr(clip.ZeroShotPredictor, "predict", lambda *_: pytest.fail("asked again"))
    path = tmp_path / "answers" / "report.json"
    everything = json.loads(path.read_text())["accuracy"]["count"]
    config = clip_config(candidates=2)
    main(["--config", str(config), "--report-only"])
    two = json.loads(path.read_text())
    assert two["protocol"]["candidates"] == 2
    assert two["accuracy"]["count"] >= everything  # the label stays, rivals go
    assert {key: two["candidate_set"][key] for key in ("classes", "candidates")} == {"classes": 3, "candidates": 2}
    for example in two["examples"]:
        assert len(example["candidates"]) == 2
        assert {example["target"], example["answer"]} <= set(example["candidates"])
    page = EvalDir(tmp_path / "answers").report("md").read_text()
    assert "Each item is scored among 2 of 3 classes (the list has 4" in page
    assert ": the item's class and others drawn by the item's id" in page
    assert "A random one is correct in 50.0 %." in page
    assert "the highest cosine" in page
    assert ", ".join(two["examples"][0]["candidates"]) in page
    main(["--config", str(config)])  # neither does a run ask them


def test_sentences_are_embedded_once_for_all_images(clip_config, monkeypatch):
    calls = []
    original = clip.ClipTexts.embed
    monkeypatch.setattr(clip.ClipTexts, "embed", lambda self, texts: calls.append(texts) or original(self, texts))
    main(["--config", str(clip_config(class_sentence="{} in a photo"))])
    assert calls == [[f"{name} in a photo" for name in [*NAMES, "cat"]]]


@pytest.mark.slow
def test_a_resumed_run_gives_the_same_scores(clip_config, tmp_path):
    main(["--config", str(clip_config())])
    file = EvalDir(tmp_path / "answers").predictions(0)
    before = {key: p.scores for key, p in read_records(EvalDir(tmp_path / "answers")).predictions.items()}
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:6]))
    main(["--config", str(clip_config())])
    after = {key: p.scores for key, p in read_records(EvalDir(tmp_path / "answers")).predictions.items()}
    assert before == after


def test_another_template_is_another_evaluation(clip_config, capsys):
    main(["--config", str(clip_config())])
    with pytest.raises(SystemExit):
        main(["--config", str(clip_config(class_sentence="{}"))])
    assert "class_sentence was 'a photo of a {}'" in capsys.readouterr().err


@pytest.mark.parametrize(("class_match", "value"), [("equal", False), ("match", True)])
def test_the_authors_take_a_zebra_for_a_bra(class_match, value, tmp_path):
    classes = tmp_path / "names.json"
    classes.write_text(json.dumps(["bra", "zebra"]))
    config = ProtocolConfig(task="zero_shot", classes=str(classes), class_match=class_match, match="contains")
    fields = {
        "id": "a",
        "prompt_hash": "",
        "label": 0,
        "label_name": "bra",
        "num_tokens": 0,
        "stopped": True,
        "seconds": 0.0,
    }
    score = make_task(config).score(Prediction(**fields, target="bra", answer="zebra"))
    assert (score.value, score.extracted) == (value, "zebra")


def test_a_clip_says_that_it_answers_no_question(write_config, tiny_clip, capsys):
    with pytest.raises(SystemExit):
        main(["--config", str(write_config(model=str(tiny_clip)))])
    assert "protocol.task zero_shot; it is open_world" in capsys.readouterr().err


def test_an_error_for_a_llava_says_that_class_scoring_is_its_kind(clip_config, tiny_model, capsys):
    with pytest.raises(SystemExit):
        main(["--config", str(clip_config(model=tiny_model))])
    assert "task class_likelihood scores all class names" in capsys.readouterr().err


def test_a_name_that_does_not_fit_is_named(clip_config, tiny_clip, tmp_path):
    respondent = ClipEvalModel(tiny_clip, "fp32", "cpu")
    with pytest.raises(Exception, match=r"longer than CLIP's 48 tokens; shorten protocol\.class_sentence"):
        respondent.texts.embed(["qx" * 60])


def test_a_folder_with_nothing_but_a_bin_file_can_be_asked(tiny_clip, tmp_path):
    model = CLIPModel.from_pretrained(tiny_clip)
    for file in tiny_clip.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert len(weights_identity(tmp_path)) == 64
    again = load_image_encoder(tmp_path, "fp32", "cpu")
    assert torch.equal(again.model.visual_projection.weight, model.visual_projection.weight)


def test_damaged_weights_and_a_missing_tokenizer_are_reported_in_one_line(tiny_clip, tmp_path):
    for file in tiny_clip.iterdir():
        if not file.name.startswith("token") and file.name not in ("vocab.json", "merges.txt"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match="has no tokenizer"):
        ClipEvalModel(tmp_path, "fp32", "cpu")
    (tmp_path / "model.safetensors").unlink()
    torch.save({"a": torch.ones(100)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "pytorch_model.bin").write_bytes((tmp_path / "pytorch_model.bin").read_bytes()[:-200])
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_image_encoder(tmp_path, "fp32", "cpu")


def test_the_bin_file_of_a_hub_id_is_fetched_where_there_are_no_safetensors(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *words, **more: asked.append((words, more)))
    config = type("Config", (), {"model": "openai/some-clip", "revision": "main"})()
    with_weights(tmp_path, config)
    assert asked == [(("openai/some-clip", "pytorch_model.bin"), {"revision": "main"})]


def test_pixels_are_pillows_with_any_other_library_installed(tiny_clip):
    assert type(own_processor(tiny_clip)).__name__ == "CLIPImageProcessorPil"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"image_mean": [0.5]}, "its image processor fails: mean must have 3 elements"),
        ({"do_center_crop": False}, "the image processor makes 3 x"),
        ({"crop_size": {"height": 20, "width": 20}}, "makes 3 x 20 x 20 values"),
        ({"image_std": [0.0, 1.0, 1.0]}, "finite"),
        ({"size": {"widest": 3}}, "size must have one of"),
    ],
    ids=str,
)
def test_a_processor_that_does_not_fit_the_tower_is_refused_when_it_is_loaded(tiny_clip, tmp_path, changed, named):
    folder = Path(shutil.copytree(tiny_clip, tmp_path / "clip"))
    file = folder / "processor_config.json"
    settings = json.loads(file.read_text())
    settings["image_processor"] |= changed
    file.write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=named) as found:
        load_image_encoder(folder, "fp32", "cpu")
    assert "\n" not in str(found.value)
