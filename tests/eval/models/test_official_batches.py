"""What the authors' pipelines do to pixels and batches of BLIP-2, against transformers' own processors and models."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    Blip2Processor,
    InstructBlipProcessor,
    LlavaNextProcessor,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from configs.errors import ConfigError
from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from data_prep.images import decode_rgb
from data_prep.sample import Turn
from eval.models.generate import TextPredictor
from eval.models.memory import NOT_FINITE
from eval.models.right_padding import NonFiniteRowDetector
from eval.run import main
from eval.runner.batching import depends_on_batch
from eval.runner.predictions import read_records
from eval.types import Answer, Failure
from train.chat.templates import VICUNA_V1
from train.models.loading import load_model
from train.toy.tiny_families import QUERIES

QUESTIONS = (
    "What type of object is in this photo?",
    "Identify the object",
    "A B C D",
    "wild dog or cat , red or moss ?",
)
SIZES = ((40, 24), (24, 70), (64, 64), (33, 31))
TEXTS = {
    "llava_next": f"{VICUNA_V1} USER: <image>\n{{}} ASSISTANT:",
    "blip-2": "Question: {} Answer:",
    "instructblip": "{}",
}


def own_processor(folder, name, padding_side="right"):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = padding_side
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    if name == "llava_next":
        images = LlavaNextImageProcessorPil.from_pretrained(folder)
        return LlavaNextProcessor(images, tokenizer, 8, "default", num_additional_image_tokens=1)
    images = BlipImageProcessorPil.from_pretrained(folder)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    if name == "blip-2":
        return Blip2Processor(images, tokenizer, QUERIES)
    second = AutoTokenizer.from_pretrained(folder / "qformer_tokenizer")
    return InstructBlipProcessor(images, tokenizer, second, QUERIES)


def turns(question: str) -> tuple[Turn, ...]:
    return (Turn("human", f"<image>\n{question}"),)


def loaded_with_padding(folder):
    """The model, its tokenizer padding on the right as OPT's does."""
    loaded = load_model(str(folder), None, "fp32", "sdpa")
    loaded.tokenizer.padding_side = "right"
    loaded.tokenizer.pad_token = loaded.tokenizer.pad_token or loaded.tokenizer.eos_token
    return loaded


@pytest.mark.slow
@torch.inference_mode()
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("side", ["right", "processor"])
def test_a_batch_padded_on_the_right_answers_as_transformers_processor_and_generate_do(families, picture, name, side):
    loaded = loaded_with_padding(families[name])
    config = ProtocolConfig(template="hf" if name == "llava_next" else "family", padding_side=side, max_new_tokens=6)
    predictor = TextPredictor(loaded, config)
    pictures = [picture(number, size) for number, size in enumerate(SIZES)]
    prompts = [predictor.prompt(turns(q), image) for q, image in zip(QUESTIONS, pictures, strict=True)]
    assert len({len(prompt.input_ids) for prompt in prompts}) > 1
    inputs = own_processor(families[name], name)(
        text=[TEXTS[name].format(question) for question in QUESTIONS],
        images=list(map(decode_rgb, pictures)),
        padding=True,
        return_tensors="pt",
    )
    model = AutoModelForImageTextToText.from_pretrained(families[name], dtype=torch.float32).eval()
    ends = {"eos_token_id": predictor.renderer.eos, "pad_token_id": loaded.tokenizer.pad_token_id}
    expected = model.generate(**inputs, do_sample=False, max_new_tokens=6, **ends)
    if expected.shape[1] > inputs["input_ids"].shape[1]:
        expected = expected[:, inputs["input_ids"].shape[1] :]
    assert predictor._generate(prompts) == expected.tolist()
    left = TextPredictor(loaded, replace(config, padding_side="left"))
    answers = [[answer.text for answer in asked.predict(prompts)] for asked in (predictor, left)]
    assert answers[0] != answers[1]  # the neighbours do matter
    alone = [left.predict([prompt])[0].text for prompt in prompts]
    assert answers[1] == alone


def test_processor_is_the_left_where_the_folder_pads_there(families):
    loaded = loaded_with_padding(families["blip-2"])
    loaded.tokenizer.padding_side = "left"
    assert TextPredictor(loaded, ProtocolConfig(padding_side="processor")).padding is None
    loaded.tokenizer.pad_token = None
    with pytest.raises(ConfigError, match="has no padding token"):
        TextPredictor(loaded, ProtocolConfig(padding_side="right"))


@torch.inference_mode()
@pytest.mark.parametrize("name", TEXTS)
def test_a_row_whose_output_is_no_number_is_lost_alone(families, picture, name, monkeypatch):
    predictor = TextPredictor(
        loaded_with_padding(families[name]), ProtocolConfig(padding_side="right", max_new_tokens=6)
    )
    prompts = [predictor.prompt(turns(q), picture(number)) for number, q in enumerate(QUESTIONS)]
    expected = [answer.text for answer in predictor.predict(prompts)]
    original = TextPredictor.inputs

    def broken(self, ids, mask, prompts):
        inputs = original(self, ids, mask, prompts)
        inputs.states[2, -1] = torch.nan
        return inputs

    monkeypatch.setattr(TextPredictor, "inputs", broken)
    answers = predictor.predict(prompts)
    assert answers[2] == Failure(NOT_FINITE)
    assert [answer.text for answer in answers if isinstance(answer, Answer)] == [*expected[:2], *expected[3:]]


def test_what_is_no_number_behind_an_answers_end_loses_nothing():
    watched = NonFiniteRowDetector(ends=[2])
    nothing, one = torch.tensor([[], []], dtype=torch.long), torch.tensor([[2], [5]])
    watched(nothing, torch.zeros(2, 4))
    watched(one, torch.tensor([[torch.nan, 0, 0, 0], [0, 0, 0, 0]]))
    assert watched.lost.tolist() == [False, False]
    watched(torch.tensor([[2, 1], [5, 6]]), torch.tensor([[torch.nan] * 4, [0, torch.inf, 0, 0]]))
    assert watched.lost.tolist() == [False, True]


def test_only_answers_that_are_written_depend_on_their_neighbours():
    assert depends_on_batch(ProtocolConfig(padding_side="right"), pads_right=False)
    assert depends_on_batch(ProtocolConfig(padding_side="processor"), pads_right=True)
    assert not depends_on_batch(ProtocolConfig(padding_side="processor"), pads_right=False)
    assert not depends_on_batch(ProtocolConfig(), pads_right=True)
    scoring = ProtocolConfig(task="class_likelihood", classes="imagenet", padding_side="right")
    assert not depends_on_batch(scoring, pads_right=True)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["blip-2", "instructblip"])
def test_a_larger_image_gives_transformers_logits_with_interpolated_positions(families, picture, name):
    loaded = load_model(str(families[name]), None, "fp32", "sdpa")
    predictor = TextPredictor(loaded, ProtocolConfig(image_size=48))
    image = picture(3, (64, 40))
    prompt = predictor.prompt(turns(QUESTIONS[0]), image)
    inputs = own_processor(families[name], name)(
        text=TEXTS[name].format(QUESTIONS[0]),
        images=decode_rgb(image),
        size={"height": 48, "width": 48},
        return_tensors="pt",
    )
    assert inputs["pixel_values"].shape[-1] == prompt.image.arrays["pixels"].shape[-1] == 48
    model = AutoModelForImageTextToText.from_pretrained(families[name], dtype=torch.float32).eval()
    expected = model(**inputs, interpolate_pos_encoding=True).logits[0, -1]
    inputs = predictor.inputs(*predictor.padded([prompt]), [prompt])
    states = predictor.text_decoder.decoder(**inputs.arguments)
    assert predictor.text_decoder.head(states.last_hidden_state[0, -1]) == pytest.approx(expected, abs=1e-4)
    assert TextPredictor(loaded, ProtocolConfig()).prompt(turns("What"), image).image.arrays["pixels"].shape[-1] == 32


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [("llava_next", 48, "only BLIP-2 and InstructBLIP"), ("blip-2", 50, "patches of 8 pixels")],
)
def test_an_image_size_that_a_family_cannot_take_is_refused(families, name, size, message):
    with pytest.raises(ConfigError, match=message):
        TextPredictor(load_model(str(families[name]), None, "fp32", "sdpa"), ProtocolConfig(image_size=size))


def test_llava_takes_its_own_image_size_alone(tiny_model):
    loaded = load_model(str(tiny_model), None, "fp32", "sdpa")
    own = TextPredictor(loaded, ProtocolConfig()).images.pixels.size
    assert TextPredictor(loaded, ProtocolConfig(image_size=own)).images.pixels.size == own
    with pytest.raises(ConfigError, match="set image_size to null"):
        TextPredictor(loaded, ProtocolConfig(image_size=2 * own))


@pytest.mark.slow
def test_answers_of_right_padded_batches_are_the_same_cut_short_and_shared_out(
    write_config, tmp_path, families, capsys
):
    classes = tmp_path / "classes.txt"
    classes.write_text("tench\nwild dog\ncat\nred moss bark\n")
    protocol = {"task": "closed_world", "classes": str(classes), "candidates": 2, "padding_side": "right"}

    def run(output: str, *arguments: str, **settings) -> dict[str, str]:
        values = {"model": str(families["blip-2"]), "output": str(tmp_path / output), "protocol": protocol} | settings
        main(["--config", str(write_config(**values)), *arguments])
        return {key: line.answer for key, line in read_records(EvalDir(tmp_path / output)).predictions.items()}

    expected = run("whole")
    assert run("shared", "--processes", "2") == expected
    file = EvalDir(tmp_path / "whole").predictions(0)
    for cut in (1, len(file.read_bytes()) // 2):
        file.write_bytes(file.read_bytes()[:cut])
        assert run("whole") == expected
    with pytest.raises(SystemExit):
        run("whole", batch_size=3)
    assert "batch_size was 4 and is now 3" in capsys.readouterr().err
    assert run("other", batch_size=3) != expected
    assert run("other", "--report-only", batch_size=4) == run("other", batch_size=3)


@pytest.mark.slow
def test_a_family_that_pads_on_the_left_may_change_its_batches_under_official(write_config, tmp_path):
    main(["--config", str(write_config(limit=3)), "--protocol", "official"])
    main(["--config", str(write_config(batch_size=2)), "--protocol", "official"])
    assert len(read_records(EvalDir(tmp_path / "answers")).predictions) == 15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "model", "settings"),
    [
        ("official", "blip-2", ["batch_size=2"]),
        ("official", "instructblip", []),
        ("official", "llava_next_mistral", []),
        ("official_finetuned_blip", "blip-2", ["protocol.image_size=48"]),
        ("official_finetuned", "llava", []),
        ("clean", "blip-2", []),
    ],
)
def test_every_preset_asks_the_families_it_is_for(
    write_config, tmp_path, families, tiny_model, preset, model, settings
):
    folder = tiny_model if model == "llava" else families[model]
    config = str(write_config(model=str(folder), limit=4))
    short = [*settings, "protocol.max_new_tokens=6"]
    main(["--config", config, "--protocol", preset, *(part for text in short for part in ("--set", text))])
    report = json.loads(EvalDir(tmp_path / "answers").report("json").read_text())
    assert report["items"]["answered"] == 4, report["failures"]
    assert report["protocol"]["dtype"] == ("fp16" if "finetuned" in preset else "fp32")
