"""Answers above and below the expected class: hand-made cases by the shipped tree, and by senses of WordNet's form."""

import pytest

from data_prep.class_tree import ClassTree, load_class_tree
from eval.scorers.tree_relation import TreeRelation

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture(scope="module")
def relation():
    return TreeRelation(load_class_tree("cifar10"), CLASSES)


@pytest.mark.parametrize(
    ("label", "answer", "outcome", "name"),
    [
        ("dog", "dog", "right", "dog"),
        ("dog", "Two dogs on a sofa.", "right", "dog"),
        ("dog", "beagle", "too specific", "beagle"),
        ("dog", "This is a golden retriever.", "too specific", "golden retriever"),
        ("dog", "a beagle, which is a dog", "right", "dog"),
        ("dog", "some kind of animal", "too general", "animal"),
        ("dog", "a canine, an animal", "too general", "canine"),
        ("dog", "a pet", "too general", "pet"),
        ("dog", "cat", "wrong", None),
        ("dog", "siamese cat", "wrong", None),
        ("dog", "a dog and a cat", "wrong", "cat"),
        ("dog", "an animal, probably a cat", "wrong", "cat"),
        ("dog", "not a dog", "wrong", None),
        ("dog", "The object in the photo is a thing.", "wrong", None),
        ("dog", "", "no answer", None),
        ("dog", "<think>a dog?", "no answer", None),
        ("dog", "I'm sorry, I cannot identify the image.", "no answer", None),
        ("dog", "<think>a cat?</think>a hound", "too specific", "hound"),
        ("deer", "a doe in the woods", "too specific", "doe"),
        ("deer", "a red deer", "too specific", "red deer"),
        ("deer", "a deer that is red", "right", "deer"),
        ("truck", "fire trucks", "too specific", "fire truck"),
        ("automobile", "a red car", "right", "car"),
        ("automobile", "a racing car", "too specific", "racing car"),
        ("truck", "a vehicle", "too general", "vehicle"),
        ("truck", "a tanker ship", "wrong", None),
        ("ship", "an oil tanker", "too specific", "oil tanker"),
        ("airplane", "aircraft carrier", "wrong", None),
        ("frog", "toad", "too specific", "toad"),
        ("horse", "a ponytail", "wrong", None),
        ("bird", "a blue jay", "too specific", "blue jay"),
    ],
)
def test_the_outcome_is_that_of_the_tree(relation, label, answer, outcome, name):
    found = relation.of(answer, (label,))
    assert (found.outcome, found.name) == (outcome, name), found.why


def test_how_far_above_is_said(relation):
    assert relation.of("an animal", ("beagle",)).why == "'animal' is 4 steps above 'beagle'"
    assert relation.of("a hound", ("beagle",)).why == "'hound' is 1 step above 'beagle'"


def test_of_several_labels_any_is_right_and_names_the_protocol_accepts_count(relation):
    assert relation.of("a cat", ("dog", "cat")).outcome == "right"
    assert relation.of("a dog and a cat", ("dog", "cat")).outcome == "right"
    assert relation.of("a kitten", ("dog", "cat")).outcome == "too specific"
    assert relation.of("a doggo", ("dog",), ("doggo",)).outcome == "right"


def test_a_label_outside_the_tree_can_be_right_or_wrong_and_is_flagged(relation):
    found = relation.of("a unicorn", ("unicorn",))
    assert (found.outcome, found.flags) == ("right", ("label not in the tree",))
    assert relation.of("an animal", ("unicorn",)).outcome == "wrong"


@pytest.fixture
def senses():
    """Two cranes: a bird and a machine; queen is first of all a person, then a cat."""
    names = {
        "bird": ("bird",), "crane.bird": ("crane",), "machine": ("machine",), "crane.machine": ("crane",),
        "cat": ("cat",), "queen.cat": ("queen",), "queen.person": ("queen",), "hot dog": ("hot dog",), "dog": ("dog",),
        "entity": ("entity",),
    }  # fmt: skip
    parents = {
        "crane.bird": ("bird",), "crane.machine": ("machine",), "queen.cat": ("cat",), "bird": ("entity",),
        "dog": ("entity",),
    }  # fmt: skip
    by_name = {
        "bird": ["bird"], "crane": ["crane.machine", "crane.bird"], "machine": ["machine"], "cat": ["cat"],
        "queen": ["queen.person", "queen.cat"], "hot dog": ["hot dog"], "dog": ["dog"], "entity": ["entity"],
    }  # fmt: skip
    return ClassTree("test", "0", names, parents, by_name, wordnet=True)


def test_a_known_synset_decides_among_the_senses_of_a_label(senses):
    every = TreeRelation(senses, ("crane",))
    assert every.of("a bird", ("crane",)).outcome == every.of("a machine", ("crane",)).outcome == "too general"
    assert every.of("a bird", ("crane",)).flags == ("label with several senses",)
    bird = TreeRelation(senses, ("crane",), {"crane": "crane.bird"})
    assert bird.of("a bird", ("crane",)).outcome == "too general"
    assert bird.of("a machine", ("crane",)).outcome == "wrong"
    assert bird.of("a bird", ("crane",)).flags == ()


def test_a_rare_sense_of_a_name_is_no_kind_of_the_class(senses):
    assert TreeRelation(senses).of("a queen", ("cat",)).outcome == "wrong"


def test_a_name_inside_a_longer_one_and_the_top_of_the_tree_say_nothing(senses):
    relation = TreeRelation(senses)
    assert relation.of("two hot dogs", ("dog",)).outcome == "wrong"
    assert relation.of("an entity", ("bird",)).outcome == "wrong"
