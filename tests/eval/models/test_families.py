"""Families other than LLaVA-1.5: what we compute is what transformers' own processors and models compute."""

import json
from dataclasses import asdict

import pytest
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
)

from configs.errors import ConfigError, DataError
from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.probe import TABLE_10
from configs.protocol import ProtocolConfig
from data_prep.images import decode_rgb
from data_prep.sample import Turn
from eval.models.class_likelihood.scorer import ClassScorer
from eval.models.generate import TextPredictor
from eval.models.hidden_states import LanguageModelStates, has_position
from eval.paper.published import paper_numbers
from eval.paper.rows import own_row, rows_of_report
from eval.probing import main as probe
from eval.run import main as evaluate
from eval.runner.evaluated_model import EvaluatedModel
from tests.train.families.cases import CASES
from train.chat.templates import VICUNA_V1
from train.models.loading import attention_of, load_model
from train.models.registry import FAMILIES, family_of, trainable_family_of
from train.models.tiles import tile_tokens
from train.models.types import Family as EvaluatedFamily
from train.toy.tiny_families import BUILDERS, WINDOW

NAMES = tuple(name for name in BUILDERS if name != "idefics3")  # which is SmolVLM2's class
MARKUP = {"llava_next": "hf"}  # transformers' own ids; the others' default has them
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
SIZES = ((40, 24), (24, 70), (64, 64), (150, 30), (33, 31))  # width, height: grids of all shapes
QUESTIONS = (
    "What type of object is in this photo?",
    "Identify the object",
    "A B C D",
    "What is the answer ? Let ' s think step by step .",
    "wild dog or cat , red or moss ?",
)
CLASSES = ("tench", "wild dog", "wild cat", "cat", "red moss", "wild dog", "red moss bark")


class Family:
    """One family's folder with our predictor and transformers' model and processor."""

    def __init__(self, folder, name, pictures):
        self.folder, self.name, self.pictures = folder, name, pictures
        self.loaded = load_model(str(folder), None, "fp32", "sdpa")
        self.predictor = self.under(max_new_tokens=8)
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = CASES[name].processor(folder)

    def under(self, **protocol):
        return TextPredictor(self.loaded, ProtocolConfig(**{"template": MARKUP.get(self.name, "family")} | protocol))

    def prompt(self, number):
        return self.predictor.prompt((Turn("human", f"<image>\n{QUESTIONS[number]}"),), self.pictures[number])

    def inputs(self, number, more=()):
        """What transformers' processor makes of question `number`, `more` tokens appended."""
        inputs = self.processor(
            text=own_text(self.name, self.processor, QUESTIONS[number]),
            images=decode_rgb(self.pictures[number]),
            return_tensors="pt",
        )
        for name in ("input_ids", "mm_token_type_ids"):
            if name in inputs:
                added = torch.tensor([more if name == "input_ids" else [0] * len(more)], dtype=torch.long)
                inputs[name] = torch.cat([inputs[name], added], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        return inputs


def own_text(name, processor, question):
    """The prompt as transformers' documentation of each model has it, or its chat template."""
    if name == "llava_next":
        return f"{VICUNA_V1} USER: <image>\n{question} ASSISTANT:"
    return CASES[name].text(processor, [(question, None)], True)


@pytest.fixture(scope="session", params=NAMES)
def family(request, families, picture):
    pictures = [picture(number, size) for number, size in enumerate(SIZES)]
    return Family(families[request.param], request.param, pictures)


def our_states(family, prompts):
    """(B, T, H) and the mask: the decoder over our ids, pixels, positions and left padding."""
    predictor = family.predictor
    inputs = predictor.inputs(*predictor.padded(prompts), prompts)
    return predictor.text_decoder.decoder(**inputs.arguments).last_hidden_state, inputs.mask.bool()


@pytest.mark.slow
@torch.inference_mode()
def test_ids_pixels_and_logits_are_those_of_transformers_own_processor_and_model(family):
    prompts = [family.prompt(number) for number in range(len(QUESTIONS))]
    states, mask = our_states(family, prompts)
    for number, prompt in enumerate(prompts):
        inputs = family.inputs(number)
        assert prompt.input_ids == inputs["input_ids"][0].tolist()
        expected = family.model(**inputs).logits[0]
        ours = family.predictor.model.get_output_embeddings()(states[number][mask[number]])
        assert (ours - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))
    assert len({len(prompt.input_ids) for prompt in prompts}) > 1


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 5])
def test_greedy_tokens_are_those_of_generate(family, batch_size):
    prompts = [family.prompt(number) for number in range(len(QUESTIONS))]
    ours = []
    for start in range(0, len(prompts), batch_size):
        ours += [answer.token_ids for answer in family.predictor.predict(prompts[start : start + batch_size])]
    for number, tokens in enumerate(ours):
        inputs = family.inputs(number)
        output = family.model.generate(**inputs, do_sample=False, max_new_tokens=8)
        assert tokens == output[0, inputs["input_ids"].shape[1] :].tolist()
    assert len({tuple(tokens) for tokens in ours}) > 1


@pytest.mark.slow
def test_an_answer_ends_where_the_model_ends_it(family):
    model = family.model.language_model if "blip" in family.name else family.model
    assert family.predictor.renderer.eos == model.generation_config.eos_token_id


@pytest.mark.slow
@torch.inference_mode()
def test_class_scores_are_those_of_a_full_forward_a_class(family):
    scorer = ClassScorer(family.predictor)
    turns = [(Turn("human", f"<image>\n{question}"),) for question in QUESTIONS]
    trie = scorer.trie(turns[0], CLASSES)
    prompts = [family.prompt(number) for number in range(len(QUESTIONS))]
    together = scorer.log_probs(prompts, trie)
    for number, prompt in enumerate(prompts):
        for name, path in zip(CLASSES, trie.paths, strict=True):
            tokens = [trie.tokens[node] for node in path]
            logits = family.model(**family.inputs(number, tokens)).logits[0].log_softmax(-1)
            start = len(prompt.input_ids) - 1
            expected = [float(logits[start + place, token]) for place, token in enumerate(tokens)]
            assert together[number, path] == pytest.approx(expected, abs=1e-4), name
    if family.name == "llava_next_mistral":
        assert max(len(prompt.input_ids) for prompt in prompts) + trie.depth > WINDOW, "the window is passed"


def test_a_names_tokens_are_those_it_has_after_the_prompt(family):
    turns = (Turn("human", f"<image>\n{QUESTIONS[0]}"),)
    trie = ClassScorer(family.predictor).trie(turns, CLASSES)
    tokenizer = family.processor.tokenizer
    text = own_text(family.name, family.processor, QUESTIONS[0])
    before = tokenizer(text)["input_ids"]
    for name, path in zip(CLASSES, trie.paths, strict=True):
        whole = tokenizer(f"{text}{'' if text.endswith(chr(10)) else ' '}{name}")["input_ids"]
        assert whole[: len(before)] == before
        assert [trie.tokens[node] for node in path] == whole[len(before) :]
        if family.name == "blip-2":  # what the authors' code looked up
            assert tokenizer(name, add_special_tokens=False)["input_ids"] != whole[len(before) :]


POSITIONS = {"token_positions": list(TABLE_10)}


@pytest.mark.slow
def test_probed_states_are_the_last_layers_and_a_place_beyond_the_prompt_is_none(family, write_config):
    protocol = {"template": MARKUP.get(family.name, "family"), "max_new_tokens": 8}
    settings = {"model": str(family.folder), "source": "pets", "protocol": protocol, "probe": POSITIONS}
    config, _ = load_config(EvalConfig, write_config(**settings))
    prompts = [family.prompt(number) for number in range(len(QUESTIONS))]
    found = LanguageModelStates(family.loaded, config).states(prompts)
    beyond = 0
    for number, prompt in enumerate(prompts):
        with torch.inference_mode():
            outputs = family.model(**family.inputs(number), output_hidden_states=True)
        outputs = outputs.language_model_outputs if "blip" in family.name else outputs
        states = outputs.hidden_states[-1][0]
        scale = float(states.abs().max())
        for place, ours in zip(config.probe.token_positions, found[number], strict=True):
            length = len(prompt.input_ids)
            assert has_position(place, length) == (place == "mean" or -length <= int(place) < length)
            if not has_position(place, length):
                beyond += 1
                continue
            expected = states.mean(0) if place == "mean" else states[int(place)]
            assert (ours - expected).abs().max() <= 1e-5 * max(1.0, scale)
    assert beyond, "some prompt is shorter than the last place"


def test_a_question_without_its_image_goes_through_the_language_model_alone(family):
    prompt = family.predictor.prompt((Turn("human", QUESTIONS[0]),), None)
    assert prompt.image is None
    assert int(family.loaded.model.config.image_token_id) not in prompt.input_ids
    assert (
        family.predictor.predict([prompt])[0].token_ids
        == family.predictor.predict([prompt, family.prompt(1)])[0].token_ids
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "preset"),
    [
        *((task, None) for task in ("open_world", "class_likelihood", "multiple_choice")),
        *(("class_likelihood", preset) for preset in ("official", "paper", "clean")),
    ],
)
def test_an_evaluation_runs_with_every_preset(family, task, preset, write_config, tmp_path, capsys):
    (tmp_path / "classes.json").write_text(json.dumps(["tench", "wild dog", "cat"]))
    protocol = {"task": task, "classes": str(tmp_path / "classes.json")}
    source = "quiz" if task == "multiple_choice" else "pets"
    file = write_config(model=str(family.folder), source=source, limit=3, protocol=protocol)
    evaluate(["--config", str(file), *(["--protocol", preset] if preset else [])])
    report = json.loads(next(tmp_path.rglob("report.json")).read_text())
    assert report["items"]["answered"] == 3
    assert report["items"]["failed"] == 0


@pytest.mark.slow
def test_probing_runs_and_says_which_places_are_left_out(family, write_config, capsys):
    config = write_config(model=str(family.folder), limit=12, probe=POSITIONS)
    probe(["--config", str(config), "--train", "pets", "--epochs", "2"])
    told = capsys.readouterr().out
    assert "mean  " in told
    assert "  500  left out: 24 questions end before it" in told


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("llava_next", "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
         "helpful, detailed, and polite answers to the human's questions. USER: <image>\n{} ASSISTANT:"),
        ("llava_next_mistral", "[INST] <image>\n{}[/INST]"),
        ("blip-2", "Question: {} Answer:"),
        ("instructblip", "Question: {} Answer:"),
    ],
)  # fmt: skip
def test_official_is_the_authors_text(families, picture, name, text):
    """`main_results/main.py` of github.com/yuhui-zh15/VLMClassifier."""
    family = Family(families[name], name, [picture(1)])
    predictor = family.under(template="official", system_prompt="official")
    question = "What type of object is in this photo?"
    ours = predictor.prompt((Turn("human", f"<image>\n{question}"),), picture(1))
    theirs = family.processor(text=text.format(question), images=decode_rgb(picture(1)), return_tensors="pt")
    assert ours.input_ids == theirs["input_ids"][0].tolist()


def test_official_reasons_in_blips_question_and_in_the_others_answer(families, picture):
    cot = {"template": "official", "system_prompt": "official", "answer_prefix": "think step by step ."}
    blip, mistral = (Family(families[name], name, [picture(1)]) for name in ("blip-2", "llava_next_mistral"))
    prompts = [f.under(**cot).prompt((Turn("human", "<image>\nIdentify"),), picture(1)) for f in (blip, mistral)]
    texts = [
        f.loaded.tokenizer.decode([t for t in p.input_ids if t < 320])
        for f, p in zip((blip, mistral), prompts, strict=True)
    ]
    assert texts[0].endswith("Question: Identify think step by step . Answer:")
    assert texts[1].endswith("] think step by step .")


@pytest.mark.parametrize("size", [(1, 1), (700, 3), (5, 300), (96, 32), (63, 65), (64, 64), (333, 500), (97, 33)])
def test_tiles_and_their_tokens_are_those_of_transformers(families, size):
    processor = CASES["llava_next"].processor(families["llava_next"])
    config = AutoConfig.from_pretrained(families["llava_next"])
    family = family_of(families["llava_next"])
    image = Image.effect_noise(size, 80).convert("RGB")
    ours = family.image_processor().pixels
    theirs = processor.image_processor(image, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(ours.normalize(torch.from_numpy(ours(image))), theirs, atol=1e-6, rtol=0)
    tokens = tile_tokens(size[::-1], ours.grid, 32, 8)
    assert tokens == processor(text="<image>", images=image)["input_ids"][0].count(config.image_token_id)


@pytest.mark.parametrize(
    ("name", "protocol", "message"),
    [
        ("blip-2", {"template": "llava"}, "llava is none of BLIP-2's: question, plain"),
        ("blip-2", {"system_prompt": "vicuna_v1"}, "has no system prompt"),
        ("llava_next", {"image_mode": "pad"}, "set image_mode to export"),
        ("instructblip", {"image_mode": "crop"}, "set image_mode to export"),
    ],
)
def test_what_a_family_does_not_have_is_refused_by_name(families, name, protocol, message):
    with pytest.raises(ConfigError, match=message):
        TextPredictor(load_model(str(families[name]), None, "fp32", "sdpa"), ProtocolConfig(**protocol))


def test_a_question_too_long_for_the_q_former_is_refused(families, picture):
    family = Family(families["instructblip"], "instructblip", [picture(1)])
    with pytest.raises(DataError, match="for the Q-Former, which reads 96"):
        family.predictor.prompt((Turn("human", "<image>\n" + "red " * 120),), picture(1))


class OnlyEvaluated(EvaluatedFamily):
    """A family without what training needs."""

    name, model_type = "LLaVA-NeXT", "llava_next"


def test_training_is_refused_and_says_what_is_supported(families, monkeypatch):
    monkeypatch.setitem(FAMILIES, "llava_next", f"{__name__}:OnlyEvaluated")
    monkeypatch.setattr(OnlyEvaluated, "__abstractmethods__", frozenset())
    with pytest.raises(
        ConfigError, match=r"evaluated and not trained; training supports LLaVA-1.5 \(llava\), .*BLIP-2 \(blip-2\)"
    ):
        trainable_family_of(families["llava_next"])


@pytest.mark.parametrize("language", ["t5", "mt5"])
def test_an_encoder_decoder_is_refused_before_its_weights_are_read(tmp_path, language):
    config = {"model_type": "blip-2", "image_token_index": 7, "text_config": {"model_type": language}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=f"encoder-decoder {language}"):
        load_model(str(tmp_path), None, "fp32", "sdpa")


def test_flash_attention_is_not_asked_of_a_q_former(families, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    blip = load_model(str(families["blip-2"]), None, "fp32", "sdpa").family
    assert attention_of(blip, "auto", "cuda", "bf16") == "sdpa"
    assert attention_of(family_of(families["llava_next"]), "auto", "cuda", "bf16") == "flash_attention_2"
    with pytest.raises(ConfigError, match="BLIP-2 does not have"):
        attention_of(blip, "flash_attention_2", "cuda", "bf16")


@pytest.mark.parametrize(
    ("place", "model"),
    [
        ("llava-hf/llava-1.5-13b-hf", "LLaVA1.5-13B"),
        ("llava-hf/llava-v1.6-vicuna-7b-hf", "LLaVANeXT-V7B"),
        ("llava-hf/llava-v1.6-mistral-7b-hf", "LLaVANeXT-M7B"),
        ("Salesforce/blip2-opt-2.7b", "BLIP2-2.7B"),
        ("Salesforce/instructblip-vicuna-7b", "IBLIP-7B"),
        ("Salesforce/instructblip-vicuna-13b", "IBLIP-13B"),
    ],
)
def test_a_model_by_its_hub_id_is_shown_with_its_own_rows_of_the_paper(place, model):
    known = {row: number.value for row, number in paper_numbers().items()}
    preset = "table1/open_world/LLaVA1.5-7B/ImageNet"
    asked = {"source": "imagenet_val", "protocol": {"task": "open_world", "prompt": "paper"}}
    asked["evaluated_model"] = asdict(EvaluatedModel(place)) | {"finetuned": False}
    assert own_row(preset, asked, known) == f"table1/open_world/{model}/ImageNet"
    report = {"model": place, "source": "flowers102_test", "paper": {"row": preset.replace("ImageNet", "Flowers102")}}
    rows = rows_of_report(report | {"protocol": {"task": "closed_world", "prompt": "paper"}}, known)
    assert f"table1/closed_world/{model}/Flowers102" in rows
    assert not any("LLaVA1.5-7B" in row for row in rows)
