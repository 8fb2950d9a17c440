"""The tiny CLIP: a plain transformers folder, learned from a shard set, the same each time."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from transformers import CLIPModel, CLIPProcessor
from transformers.models.clip.modeling_clip import image_text_contrastive_loss

from data_prep import build
from train.supervision import signals
from train.toy import clip_training
from train.toy.clip_recipe import ClipRecipe
from train.toy.clip_state import STATE, ClipTraining
from train.toy.clip_threads import fastest_threads, measured_threads
from train.toy.clip_training import read_images
from train.toy.tiny_clip import main
from train.toy.tiny_clip_parts import build_model, build_tokenizer, contrastive_loss, varied

COLOURS = {"red brick": (200, 30, 30), "green leaf": (30, 190, 40), "blue sky": (40, 60, 210)}


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Path:
    """A config with shards of 24 noisy images of each of three colours."""
    root = tmp_path_factory.mktemp("colours")
    drawn = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / "images" / name).mkdir(parents=True)
        for number in range(24):
            pixels = np.clip(np.array(colour) + drawn.normal(0, 40, (20, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "images" / name / f"{number}.png")
    config = root / "run.yaml"
    config.write_text(
        "name: colours\nmodel: {base: none}\ntrain: {sources: [all]}\n"
        f"data: {{shards: {root / 'shards'}, sources: {{all: {{reader: image_folder, path: {root / 'images'}}}}}}}\n"
    )
    build.main(["--config", str(config)])
    return config


def made(config: Path, output: Path, *arguments: str) -> Path:
    sizes = ("--image-size", "16", "--patch-size", "8", "--threads", "1")
    main(["--config", str(config), "--source", "all", "--output", str(output), *sizes, *arguments])
    return output


@pytest.mark.slow
def test_it_learns_and_plain_transformers_loads_it(colours, tmp_path):
    folder = made(colours, tmp_path / "clip", "--epochs", "25")
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    images = [Image.fromarray(np.full((20, 20, 3), colour, np.uint8)) for colour in COLOURS.values()]
    texts = [f"a photo of a {name}" for name in COLOURS]
    with torch.inference_mode():
        logits = model(**processor(text=texts, images=images, padding=True, return_tensors="pt")).logits_per_image
    assert logits.argmax(1).tolist() == [0, 1, 2]
    assert json.loads((folder / "tiny_clip.json").read_text())["epochs"] == 25


@pytest.mark.slow
def test_built_twice_it_is_the_same_bit_for_bit(colours, tmp_path):
    folders = [made(colours, tmp_path / name, "--epochs", "2") for name in ("a", "b")]
    first, second = ({f.name: f.read_bytes() for f in folder.iterdir()} for folder in folders)
    assert first == second
    other = made(colours, tmp_path / "c", "--epochs", "2", "--seed", "1")
    assert (other / "model.safetensors").read_bytes() != first["model.safetensors"]


@pytest.mark.slow
def test_a_killed_training_continues_to_the_same_model(colours, tmp_path, monkeypatch, capsys):
    whole = made(colours, tmp_path / "whole", "--epochs", "3")
    monkeypatch.setattr(clip_training, "SAVE_SECONDS", 0.0)
    update, left = clip_training.Steps.step, [2]

    def killed(steps):
        left[0] -= 1
        if left[0] < 0:
            raise MemoryError  # as abrupt as a kill: nothing is saved for it
        return update(steps)

    monkeypatch.setattr(clip_training.Steps, "step", killed)
    with pytest.raises(MemoryError):
        made(colours, tmp_path / "killed", "--epochs", "3")
    with pytest.raises(SystemExit, match="2"):
        made(colours, tmp_path / "killed", "--epochs", "4")
    assert "unfinished training of something else (epochs 3 -> 4)" in capsys.readouterr().err
    monkeypatch.setattr(clip_training.Steps, "step", update)
    made(colours, tmp_path / "killed", "--epochs", "3")
    assert "continues after step 2" in capsys.readouterr().err
    first, second = ({f.name: f.read_bytes() for f in (whole, tmp_path / "killed")[n].iterdir()} for n in (0, 1))
    assert first == second


def test_a_damaged_state_is_one_line(colours, tmp_path, capsys):
    (tmp_path / STATE).write_bytes(b"half")
    with pytest.raises(SystemExit, match="2"):
        made(colours, tmp_path)
    assert f"{tmp_path / STATE} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, signals.StopRequested])
def test_ctrl_c_ends_it_with_a_line_and_its_exit_code(colours, tmp_path, capsys, monkeypatch, interrupt):
    def stopped(steps):
        raise interrupt

    monkeypatch.setattr(clip_training.Steps, "step", stopped)
    with pytest.raises(SystemExit, match="130"):
        made(colours, tmp_path / "clip")
    assert capsys.readouterr().err.splitlines()[-1] == "stopped; nothing was trained yet"


def test_a_stop_request_saves_the_step_that_is_done(colours, tmp_path, capsys, monkeypatch):
    asked = iter([False, True, True])
    monkeypatch.setattr(signals, "stop_requested", lambda: next(asked))
    with pytest.raises(SystemExit, match="130"):
        made(colours, tmp_path / "clip")
    assert capsys.readouterr().err.splitlines()[-1] == "stopped; the same command continues"
    assert torch.load(tmp_path / "clip" / STATE)["step"] == 2


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({1: 1.0, 2: 0.6, 4: 0.59, 6: 0.9}, 2),
        ({1: 1.0, 2: 1.2, 4: 1.5, 6: 2.0}, 1),
        ({1: 4.0, 2: 2.0, 4: 1.0, 6: 0.7}, 6),
    ],
)
def test_threads_are_added_while_they_make_steps_much_shorter(seconds, chosen):
    assert fastest_threads(6, lambda threads: seconds[threads]) == chosen


@pytest.mark.slow
def test_measuring_threads_changes_neither_model_nor_random_numbers():
    recipe = ClipRecipe(images=4, image_size=16)
    tokenizer = build_tokenizer(["a", "b"], recipe)
    model = build_model(tokenizer, recipe)
    before, drawn, threads = [p.clone() for p in model.parameters()], torch.get_rng_state(), torch.get_num_threads()
    assert 1 <= measured_threads(model, tokenizer, recipe) <= len(os.sched_getaffinity(0))
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, model.parameters(), strict=True))
    assert torch.equal(drawn, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_with_a_text_for_every_image_the_loss_is_clips_own():
    drawn = torch.Generator().manual_seed(0)
    similarities = 3 * torch.randn(6, 6, generator=drawn)
    ours = contrastive_loss(similarities, torch.arange(6))
    assert ours.item() == pytest.approx(image_text_contrastive_loss(similarities.T).item(), abs=1e-6)


def test_images_that_share_a_text_are_all_its_own():
    drawn = torch.Generator().manual_seed(1)
    similarities, owners = torch.randn(5, 2, generator=drawn), torch.tensor([0, 1, 0, 0, 1])
    expected = 0.0
    for image, owner in enumerate(owners.tolist()):
        expected -= torch.log_softmax(similarities[image], 0)[owner].item() / 5
    for text in range(2):
        own = [image for image in range(5) if owners[image] == text]
        expected -= sum(torch.log_softmax(similarities[:, text], 0)[i].item() for i in own) / len(own) / 2
    assert contrastive_loss(similarities, owners).item() == pytest.approx(expected / 2, abs=1e-6)


def test_variations_are_shifts_and_mirrors_of_the_image():
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 3, 6, 6), generator=draw, dtype=torch.uint8)
    padded = functional.pad(image.float(), (2,) * 4, mode="replicate")
    possible = [
        torch.flip(padded[..., y : y + 6, x : x + 6], [3]) if mirrored else padded[..., y : y + 6, x : x + 6]
        for y in range(5)
        for x in range(5)
        for mirrored in (False, True)
    ]
    seen = set()
    for one in varied(image.expand(200, -1, -1, -1), 2, draw):
        matches = [number for number, known in enumerate(possible) if torch.equal(known[0], one)]
        assert matches
        seen.add(matches[0])
    assert len(seen) > 40


def test_an_epoch_takes_every_image_once():
    recipe = ClipRecipe(epochs=2, images=4)
    training = ClipTraining(build_model(build_tokenizer(["a", "b"], recipe), recipe), recipe, 10, 1)
    rows = []
    for training.step in range(training.steps):  # noqa: B020 - the step is the training's
        rows.append(training.rows())
    assert [len(row) for row in rows] == [4] * 4
    for epoch in (rows[:2], rows[2:]):
        assert len(set(torch.cat(epoch).tolist())) == 8


def test_the_tokenizer_spells_any_text_and_ends_it():
    tokenizer = build_tokenizer(["tench", "wild dog"], ClipRecipe())
    for text in ("a photo of a tench", "Ünknown – words", "日本"):
        ids = tokenizer(text)["input_ids"]
        assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text.lower()
    assert len(tokenizer("a photo of a wild dog")["input_ids"]) <= 8  # names are learned, not spelled


def test_images_are_cropped_as_its_processor_crops(colours, tmp_path):
    from data_prep.shards import ShardSet

    shards = ShardSet.open(colours.parent / "shards" / "all")
    pixels, labels = read_images(shards, 16)
    folder = made(colours, tmp_path / "clip", "--epochs", "1")
    processor = CLIPProcessor.from_pretrained(folder).image_processor
    image = Image.open(io.BytesIO(shards.sample(30).image)).convert("RGB")
    theirs = processor(images=image, do_normalize=False, do_rescale=False, return_tensors="np")["pixel_values"][0]
    assert np.array_equal(pixels[30].numpy(), theirs)
    assert labels[30].item() == shards.sample(30).label


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--source", "none"), "--source 'none' is not in data.sources: all"),
        (("--image-size", "20"), "--image-size 20 must divide by --patch-size 8"),
    ],
)
def test_mistakes_are_reported_in_a_line(colours, tmp_path, capsys, arguments, words):
    with pytest.raises(SystemExit):
        main(["--config", str(colours), "--source", "all", "--output", str(tmp_path / "x"), *arguments])
    assert words in capsys.readouterr().err
