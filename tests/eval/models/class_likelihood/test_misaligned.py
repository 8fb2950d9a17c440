"""The authors' fault with BLIP-2's ids, against their loop over plain transformers."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer

from configs.errors import ConfigError
from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from data_prep.sample import Turn
from eval.class_scores.table import decode_scores
from eval.models.class_likelihood import misaligned
from eval.models.class_likelihood.misaligned import MisalignedNames
from eval.models.class_likelihood.predictor import LOG, PROBABILITIES, ClassLikelihoodPredictor
from eval.models.generate import TextPredictor
from train.models.loading import load_model

NAMES = ("tench", "wild dog", "cat", "wildcat dog", "red moss", "bark")
TURNS = (Turn("human", "<image>\nWhat type of object is in this photo?"),)
TEXT = "Question: What type of object is in this photo? Answer: A"


@pytest.fixture(scope="module")
def predictor(families):
    return made(families["blip-2"])


def made(folder):
    made = TextPredictor(load_model(str(folder), None, "fp32", "sdpa"), ProtocolConfig(template="family"))
    made.answer_prefix = "A"
    return made


@torch.inference_mode()
def authors_loop(folder, pixels: torch.Tensor | None, queries: int) -> list[list[float]]:
    """inference_analysis/main.py's process_image_raw, in other words: the whole sentence, the ids of the name alone."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for name in NAMES:
        text = tokenizer(f"{TEXT} {name}")["input_ids"]
        ids = torch.tensor([[model.config.image_token_id] * queries + text])
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels).logits[0]
        alone = tokenizer(name)["input_ids"][1:]
        window = logits[-len(alone) - 1 : -1].log_softmax(-1)
        found.append([float(window[place, token]) for place, token in enumerate(alone)])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("group", [1, 4, 100])
def test_every_name_has_the_scores_of_the_authors_loop(predictor, families, picture, monkeypatch, group):
    monkeypatch.setattr(misaligned, "GROUP", group)
    names = MisalignedNames(predictor, TURNS, NAMES, score_eos=False)
    prompts = [predictor.prompt(TURNS, picture(number)) for number in (1, 2)]
    logs, literal = names.sums(prompts, [LOG, PROBABILITIES])
    queries = prompts[0].input_ids.count(predictor.family.image_token_id)
    for row, prompt in enumerate(prompts):
        pixels = predictor.images.pixels.normalize(torch.from_numpy(prompt.image.arrays["pixels"])[None])
        expected = authors_loop(families["blip-2"], pixels, queries)
        assert names.lengths == tuple(map(len, expected))
        assert logs[row] == pytest.approx([sum(values) for values in expected], abs=1e-4)
        assert literal[row] == pytest.approx([sum(map(np.exp, values)) for values in expected], abs=1e-5)


def test_the_ids_do_differ_from_those_in_context_and_in_number(predictor):
    names = MisalignedNames(predictor, TURNS, NAMES, score_eos=False)
    pairs = list(zip(names.inside, names.alone, strict=True))
    assert all(inside != alone for inside, alone in pairs)
    assert any(len(inside) != len(alone) for inside, alone in pairs)


def test_where_a_name_is_written_alike_the_scores_are_those_in_context(families, picture, tmp_path):
    """InstructBLIP's tokenizer knows no leading spaces."""
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(NAMES))
    loaded = load_model(str(families["instructblip"]), None, "fp32", "sdpa")
    rows = []
    for ids in ("in_context", "misaligned"):
        config = ProtocolConfig(task="class_likelihood", classes=str(classes), class_token_ids=ids)
        asked = ClassLikelihoodPredictor(loaded, config, EvalDir(tmp_path))
        rows.append(decode_scores(asked.predict([asked.prompt(TURNS, picture(3))])[0].scores))
    assert rows[0] == pytest.approx(rows[1], abs=1e-4)


def test_official_scores_blip_by_misaligned_ids_and_its_table_counts_them(families, tmp_path, picture):
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(NAMES))
    config = ProtocolConfig(
        task="class_likelihood",
        classes=str(classes),
        class_token_ids="official",
        class_prefix="official",
        template="official",
    )
    asked = ClassLikelihoodPredictor(
        load_model(str(families["blip-2"]), None, "fp32", "sdpa"), config, EvalDir(tmp_path)
    )
    assert isinstance(asked.scored, MisalignedNames)
    answer = asked.predict([asked.prompt(TURNS, picture(1))])[0]
    assert answer.text == NAMES[int(decode_scores(answer.scores).argmax())]


def test_an_end_token_is_not_scored_by_misaligned_ids(predictor):
    with pytest.raises(ConfigError, match=r"protocol\.score_eos=false"):
        MisalignedNames(predictor, TURNS, NAMES, score_eos=True)
