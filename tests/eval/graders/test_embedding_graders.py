"""Graders by sentence embeddings, on vectors made by hand: cosines, concepts, nearest classes, ties, empty answers."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from configs.errors import ConfigError
from eval.grade import main
from eval.graders.embedding import Embeddings
from eval.graders.registry import make_grader
from eval.graders.types import StoredAnswer
from eval.types import Reference
from tests.eval.stored_answers import stored_answer
from train.toy.tiny_clip_parts import ClipRecipe, build_model, build_tokenizer

VECTORS = {
    "dog": (1.0, 0.0), "hound": (0.8, 0.6), "cat": (0.0, 1.0), "fox": (1.0, 0.0), "a hound on a cat": (0.6, 0.8),
    "kitty": (0.0, 1.0), "puppy": (0.96, 0.28), "a dog or a cat": (0.28, 0.96),
}  # fmt: skip


@pytest.fixture
def config(store_answers, tmp_path, monkeypatch):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "names.json").write_text(json.dumps(["dog", "cat", "fox"]))
    encoder = SimpleNamespace(
        embed=lambda texts: torch.tensor([VECTORS[text] for text in texts]), is_cut=lambda text: len(text) > 15
    )
    monkeypatch.setattr(Embeddings, "encoder", encoder)
    protocol = {"classes": str(tmp_path / "names.json")}
    grading = {"encoder": str(tmp_path / "encoder")}
    return store_answers({"tench": ["tench"]}, protocol=protocol, grading=grading)[1]


def graded(config, name, *answers, target="dog", names=(), labels=()):
    stored = [
        StoredAnswer(stored_answer("0", "", target), text, Reference(target, names, labels=labels)) for text in answers
    ]
    return [grade for _, grade in make_grader(name, config).grade(stored)]


def test_similarity_is_the_cosine_with_the_nearest_accepted_name(config):
    scores = [grade.score for grade in graded(config, "similarity", "hound", "dog", "cat", "")]
    assert scores == pytest.approx([0.8, 1.0, 0.0, 0.0])
    assert graded(config, "similarity", "hound", names=("cat", "dog"))[0].why == "'hound' and 'dog'"
    assert graded(config, "similarity", " ")[0].flags == ("no answer",)
    assert graded(config, "similarity", "hound")[0].outcome is None


def test_the_best_concept_of_an_answer_counts_and_the_whole_answer_is_one(config):
    whole, best = (graded(config, name, "a hound on a cat")[0] for name in ("similarity", "concepts"))
    assert (whole.score, best.score) == pytest.approx((0.6, 0.8))
    assert best.extracted == "hound"
    assert whole.flags == ("longer than the encoder reads",)
    assert graded(config, "concepts", "a hound on a cat", target="cat")[0].score == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("answer", "target", "outcome", "mapped", "flags"),
    [
        ("dog", "dog", "right", "dog", ()),
        ("Two dogs.", "dog", "right", "dog", ()),
        ("cat", "dog", "wrong", "cat", ()),
        ("kitty", "cat", "right", "cat", ("off-list",)),
        ("puppy", "dog", "right", "dog", ("off-list", "tie")),  # dog and fox have one vector: the first of the list
        ("puppy", "fox", "wrong", "dog", ("off-list", "tie")),
        ("a dog or a cat", "cat", "right", "cat", ("names several classes",)),
        ("", "cat", "no answer", None, ()),
        ("...", "cat", "no answer", None, ()),
    ],
)
def test_an_answer_off_the_list_becomes_the_nearest_class(config, answer, target, outcome, mapped, flags):
    grade = graded(config, "nearest", answer, target=target)[0]
    assert (grade.outcome, grade.extracted, grade.flags) == (outcome, mapped, flags), grade.why


def test_a_synonym_of_two_classes_names_both_and_a_class_name_names_its_class(config, tmp_path):
    (tmp_path / "synonyms.json").write_text(json.dumps({"dog": ["kitty"], "cat": ["kitty"], "fox": ["dog"]}))
    shared = replace(config, protocol=replace(config.protocol, synonyms=str(tmp_path / "synonyms.json")))
    grade = graded(shared, "nearest", "kitty", target="cat")[0]
    assert grade.flags == ("names several classes", "tie"), "the list's first class does not win unnoticed"
    assert graded(shared, "nearest", "a dog", target="dog")[0].flags == (), "dog is a class, and a synonym of fox"


def test_the_nearest_class_is_right_if_it_is_one_of_several_labels(config):
    assert graded(config, "nearest", "kitty", labels=("fox", "cat"))[0].outcome == "right"


@pytest.mark.parametrize("name", ["similarity", "nearest"])
def test_many_answers_are_embedded_together(config, monkeypatch, name):
    calls = []
    embed = Embeddings.encoder.embed
    monkeypatch.setattr(Embeddings.encoder, "embed", lambda texts: (calls.append(texts), embed(texts))[1])
    graded(config, name, "kitty", "puppy", "hound", "kitty", "")
    assert len(calls) <= 2, "the answers, and the names"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["similarity", "concepts", "nearest"])
def test_an_encoder_is_needed(store_answers, name, tmp_path):
    (tmp_path / "names.json").write_text('["dog", "cat"]')
    protocol = {"classes": str(tmp_path / "names.json")}
    for grading, message in (({}, "grading.encoder is not set"), ({"encoder": "/nowhere"}, "which is no folder here")):
        config = store_answers(
            {"tench": ["tench"]}, protocol=protocol, grading=grading, output=str(tmp_path / message)
        )[1]
        with pytest.raises(ConfigError, match=message):
            make_grader(name, config)


@pytest.mark.slow
def test_the_report_has_mean_scores_and_the_share_off_the_list(store_answers, tmp_path, capsys):
    (tmp_path / "names.json").write_text(json.dumps(["tench", "cat"]))
    recipe = ClipRecipe(vision_hidden=32, vision_layers=1, text_hidden=32, text_layers=1, shared=16)
    tokenizer = build_tokenizer(["tench", "wild", "cat"], recipe)
    build_model(tokenizer, recipe).save_pretrained(tmp_path / "clip")
    tokenizer.save_pretrained(tmp_path / "clip")
    settings = {"protocol": {"classes": str(tmp_path / "names.json")}, "grading": {"encoder": str(tmp_path / "clip")}}
    _, _, file = store_answers({"tench": ["tench", "wild", ""], "cat": ["cat"]}, **settings)
    main(["--config", str(file), "--grader", "similarity", "nearest", "--json"])
    entries = {entry["grader"]: entry for entry in json.loads(capsys.readouterr().out)[0]["grades"]}
    similarity, nearest = entries["similarity"], entries["nearest"]
    assert similarity["accuracy"] is None and similarity["mean_score"]["n"] == 4
    scores = {example["answer"]: example["score"] for example in similarity["examples"]}
    assert [scores["tench"], scores["cat"]] == pytest.approx([1.0, 1.0]) and scores[""] == 0
    assert similarity["mean_score"]["value"] == pytest.approx(sum(scores.values()) / 4)
    assert nearest["flags"]["off-list"]["count"] == 1
    assert nearest["outcomes"]["no answer"]["count"] == 1
