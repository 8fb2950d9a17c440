"""Hard candidates: the classes that stored cosines find most alike, by class and by image."""

import json
from dataclasses import replace

import numpy as np
import pytest

from configs.data import DataConfig, SourceConfig
from configs.errors import ConfigError, DataError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.protocol import ProtocolConfig
from eval import similar_classes
from eval.class_scores.neighbours import Neighbours, neighbours_by_class, neighbours_by_image, write_neighbours
from eval.class_scores.table import ClassScoreTable, encode_scores, write_class_scores
from eval.metrics.outcomes import scored_predictions
from eval.paper.rows import experiments
from eval.reports.candidate_set import candidate_set
from eval.run import main
from eval.runner.batching import open_source
from eval.runner.evaluation_record import describe_evaluation, write_evaluation
from eval.runner.predictions import PredictionWriter
from eval.tasks.candidates import shown_candidates
from tests.eval.stored_answers import stored_answer

NAMES = ("tench", "wild dog", "cat", "cat", "moss", "bark")


def slow_neighbours(names, own, cosines, keep):
    """The definition, by sorting pairs of Python."""
    best = {}
    for index, (name, cosine) in enumerate(zip(names, cosines, strict=True)):
        if name != own and (name not in best or cosine > best[name][0]):
            best[name] = (float(cosine), names.index(name), index)
    order = sorted(best.values(), key=lambda entry: (-entry[0], entry[2]))
    return [index for _, index, _ in order][:keep]


def answer(key, target, cosines):
    return stored_answer(key, NAMES[int(np.argmax(cosines))], target, scores=encode_scores(np.asarray(cosines)))


@pytest.fixture
def cosines():
    """(items, their cosines with `NAMES`)."""
    rng = np.random.default_rng(4)
    items = [(f"item/{number}", NAMES[number % len(NAMES)]) for number in range(30)]
    rows = rng.normal(0.2, 0.05, (30, len(NAMES)))
    rows[:, 3] = rows[:, 2]  # a shared name has a shared sentence
    return items, rows


@pytest.fixture
def files(tmp_path, cosines):
    """The files by class and by image, and settings of a protocol that uses them."""
    items, rows = cosines
    (tmp_path / "names.json").write_text(json.dumps(list(NAMES)))
    made = {}
    for by, compute in (("class", neighbours_by_class), ("image", neighbours_by_image)):
        file = tmp_path / f"{by}.json"
        write_neighbours(
            file, Neighbours(by, NAMES, compute(NAMES, items, rows, 4), {"model": "clip", "source": "pets"})
        )
        made[by] = {
            "classes": str(tmp_path / "names.json"),
            "candidate_draw": f"similar_{by}",
            "candidate_file": str(file),
        }
    return made


@pytest.mark.parametrize("keep", [1, 4, 9])
def test_neighbours_are_those_of_the_definition(cosines, keep):
    items, rows = cosines
    by_image = neighbours_by_image(NAMES, items, rows, keep)
    assert by_image == {
        key: slow_neighbours(NAMES, own, row, keep) for (key, own), row in zip(items, rows, strict=True)
    }
    by_class = neighbours_by_class(NAMES, items, rows, keep)
    assert list(by_class) == ["tench", "wild dog", "cat", "moss", "bark"]
    for name, found in by_class.items():
        mean = np.mean([row for (_, own), row in zip(items, rows, strict=True) if own == name], axis=0)
        assert found == slow_neighbours(NAMES, name, mean, keep)


def test_a_class_without_an_image_has_no_neighbours(cosines):
    items, rows = cosines
    kept = [index for index, (_, own) in enumerate(items) if own != "moss"]
    found = neighbours_by_class(NAMES, [items[index] for index in kept], rows[kept], 2)
    assert "moss" not in found and any(4 in row for row in found.values()), "others may still be similar to it"


@pytest.mark.parametrize("by", ["class", "image"])
def test_candidates_are_the_label_and_the_most_similar_classes(files, cosines, by):
    config = ProtocolConfig(task="closed_world", candidates=3, **files[by])
    orders = set()
    for (key, own), row in zip(*cosines, strict=True):
        shown = shown_candidates(config, NAMES, own, key, None)
        mean = np.mean([other for (_, name), other in zip(*cosines, strict=True) if name == own], axis=0)
        near = slow_neighbours(NAMES, own, row if by == "image" else mean, 2)
        assert sorted(shown) == sorted([NAMES.index(own), *near])
        assert shown == shown_candidates(config, NAMES, own, key, None), "drawn again, the same"
        orders.add(tuple(np.argsort(shown)))
        assert shown_candidates(replace(config, order="fixed"), NAMES, own, key, None) == sorted(shown)
    assert len(orders) > 3, "the order differs by item"


def test_another_seed_draws_another_order_of_the_same_hard_candidates_and_other_random_ones(files):
    hard = ProtocolConfig(task="closed_world", candidates=4, **files["class"])
    names = [f"class {number}" for number in range(50)]
    easy = ProtocolConfig(task="closed_world", classes="x", candidates=4)
    drawn = {seed: shown_candidates(replace(hard, seed=seed), NAMES, "moss", "a", None) for seed in range(8)}
    assert len({tuple(sorted(row)) for row in drawn.values()}) == 1 < len({tuple(row) for row in drawn.values()})
    sets = {tuple(sorted(shown_candidates(replace(easy, seed=s), names, names[3], "a", None))) for s in range(5)}
    assert len(sets) == 5 and all(3 in row for row in sets)


def test_a_clip_among_candidates_by_image_is_as_accurate_as_among_all_classes(tmp_path, files, cosines):
    folder = EvalDir(tmp_path / "answers")
    write_class_scores(folder, ClassScoreTable(NAMES, (1,) * 6, (0.0,) * 6))
    lines = [answer(key, own, row) for (key, own), row in zip(*cosines, strict=True)]

    def correct(**settings):
        config = ProtocolConfig(task="zero_shot", **settings)
        return [score.value for _, score in scored_predictions(folder, lines, config, "")]

    everything = correct(classes=files["image"]["classes"])
    assert correct(candidates=2, **files["image"]) == everything
    random = correct(classes=files["image"]["classes"], candidates=2)
    assert sum(random) > sum(everything) > 0, "random candidates are easier"


def test_too_few_similar_classes_are_an_error_that_names_the_class_and_the_number(files):
    config = ProtocolConfig(task="closed_world", candidates=6, **files["class"])
    with pytest.raises(DataError, match=r"its class 'moss' has 4 similar classes .* needs 5; lower it to 5"):
        shown_candidates(config, NAMES, "moss", "a", None)
    config = ProtocolConfig(task="closed_world", candidates=3, **files["image"])
    with pytest.raises(DataError, match=r"its image \(item new, class 'moss'\) has no similar classes"):
        shown_candidates(config, NAMES, "moss", "new", None)
    wrong = ProtocolConfig(task="closed_world", candidates=3, **files["image"] | {"candidate_draw": "similar_class"})
    with pytest.raises(DataError, match=r"set candidate_draw to similar_image, or write the file by class"):
        shown_candidates(wrong, NAMES, "moss", "item/4", None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"by": "class"}',
        '{"by": "class", "classes": ["a"], "neighbours": {"a": [1]}}',
        '{"by": "class", "classes": ["a", "b"], "neighbours": {"a": [1, 1]}}',
    ],
)
def test_another_file_is_refused_by_name(tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    settings = {"candidate_draw": "similar_class", "candidate_file": str(tmp_path / "other.json"), "candidates": 2}
    with pytest.raises(DataError, match=r"other.json is no file of similar classes"):
        shown_candidates(ProtocolConfig(task="closed_world", classes="x", **settings), NAMES, "moss", "a", None)
    (tmp_path / "other.json").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        shown_candidates(ProtocolConfig(task="closed_world", classes="x", **settings), NAMES, "moss", "a", None)


def test_settings_that_do_not_fit_are_refused():
    for settings, message in (
        ({"candidate_draw": "similar_class", "candidates": 2}, "candidate_file is not set"),
        ({"candidate_draw": "similar_image", "candidate_file": "f"}, "set the number of candidates"),
        ({"candidate_file": "f", "candidates": 2}, "candidate_draw item does not use it"),
    ):
        with pytest.raises(ConfigError, match=message):
            ProtocolConfig(task="closed_world", classes="x", **settings)


def test_hard_candidates_are_compared_with_no_row_of_the_paper_and_the_report_says_whose_they_are(files):
    config = ProtocolConfig(task="zero_shot", candidates=2, **files["image"])
    settings = {"task": "zero_shot", "candidates": 2}
    assert experiments(settings) and not experiments(settings | {"candidate_draw": "similar_image"})
    assert "most similar to its image by the cosines of clip on pets" in candidate_set(config)["chosen"]


@pytest.fixture
def zero_shot(tmp_path, write_config):
    """A function to write the answers of a zero-shot evaluation of `pets` to so many of its 15 items; their folder."""

    def write(items=15):
        (tmp_path / "pets.json").write_text(json.dumps(["tench", "wild dog", "cat"]))
        protocol = {"task": "zero_shot", "classes": str(tmp_path / "pets.json")}
        config, _ = load_config(EvalConfig, write_config(protocol=protocol), [])
        shards, folder, rng = open_source(config), EvalDir(tmp_path / f"zero-shot-{items}"), np.random.default_rng(0)
        write_evaluation(folder, describe_evaluation(config, "model", "0" * 64, shards.fingerprint, (15, 15)))
        write_class_scores(folder, ClassScoreTable(("tench", "wild dog", "cat"), (1,) * 3, (0.0,) * 3))
        with PredictionWriter(folder.predictions(0)) as writer:
            samples = [shards.sample(number) for number in range(items)]
            writer.write(answer(sample.id, sample.label_name, rng.random(3)) for sample in samples)
        return folder

    return write


@pytest.mark.slow
def test_the_command_writes_the_file_that_an_evaluation_uses(tmp_path, zero_shot, write_config, capsys):
    file = tmp_path / "similar.json"
    for by in ("class", "image"):
        similar_classes.main([str(zero_shot().root), "--by", by, "--output", str(file), "--json"])
        values = json.loads(capsys.readouterr().out)
        assert values["number"] == {"class": 3, "image": 15}[by] and values["of"]["items"] == 15
        protocol = {
            "task": "closed_world",
            "classes": str(tmp_path / "pets.json"),
            "candidates": 2,
            "candidate_draw": f"similar_{by}",
            "candidate_file": str(file),
        }
        main(["--config", str(write_config(protocol=protocol)), "--dry-run"])
        assert "Choose one from" in capsys.readouterr().out
    content = json.loads(file.read_text())
    content["neighbours"].popitem()
    file.write_text(json.dumps(content))
    with pytest.raises(SystemExit):
        main(["--config", str(write_config(protocol=protocol)), "--dry-run"])
    assert "1 of 15 items have no candidates" in capsys.readouterr().err
    main(["--config", str(write_config(protocol=protocol | {"unknown_classes": "leave_out"})), "--dry-run"])
    assert "left out and counted as failed" in capsys.readouterr().out


@pytest.mark.slow
def test_an_interrupted_or_other_evaluation_makes_no_file(tmp_path, zero_shot, write_config, capsys):
    for folder, message in ((zero_shot(9).root, "9 of 15 items"), (tmp_path / "nothing", "no evaluation.json")):
        with pytest.raises(SystemExit):
            similar_classes.main([str(folder), "--output", str(tmp_path / "f.json")])
        assert message in capsys.readouterr().err and not (tmp_path / "f.json").exists()


def test_stored_answers_belong_to_the_content_of_the_file_and_not_to_its_path(tmp_path, files):
    data = DataConfig(sources={"pets": SourceConfig(reader="image_folder", path="x")})

    def described(task, path):
        protocol = ProtocolConfig(task=task, candidates=3, **files["class"] | {"candidate_file": str(path)})
        config = EvalConfig(name="x", model="api:x", source="pets", protocol=protocol, data=data)
        return describe_evaluation(config, "model", "0", "0", (1, 1))

    first, moved, other = (tmp_path / name for name in ("class.json", "moved.json", "other.json"))
    moved.write_bytes(first.read_bytes())
    other.write_text(first.read_text().replace("[", "[ "))
    asked = [described("closed_world", path).generation_settings for path in (first, moved, other)]
    assert asked[0] == asked[1] != asked[2]
    hashes = [described("zero_shot", path).protocol_hash for path in (first, moved, other)]
    assert hashes[0] == hashes[1] != hashes[2]
    asked = [described("zero_shot", path).generation_settings for path in (first, other)]
    assert asked[0] == asked[1], "stored scores serve every candidate set"


@pytest.fixture
def tree_file(tmp_path):
    """(file of siblings, settings of a protocol): three dogs and two cats with a parent each, one fish alone."""
    parents = {name: ["dog"] for name in ("beagle", "pug", "husky")} | {"tabby": ["cat"], "manx": ["cat"]}
    tree = {"animal": [], "dog": ["animal"], "cat": ["animal"], "fish": ["animal"], "tench": ["fish"], **parents}
    (tmp_path / "tree.json").write_text(json.dumps(tree))
    (tmp_path / "pets.json").write_text(json.dumps(["beagle", "tabby", "pug", "tench", "husky", "manx"]))
    file = tmp_path / "siblings.json"
    given = ["--tree", str(tmp_path / "tree.json"), "--classes", str(tmp_path / "pets.json")]
    similar_classes.main([*given, "--output", str(file)])
    classes = str(tmp_path / "pets.json")
    return file, {"classes": classes, "candidate_draw": "siblings", "candidate_file": str(file)}


def test_siblings_have_a_parent_in_common_and_some_are_drawn_by_the_items_id(tree_file, capsys):
    file, settings = tree_file
    assert json.loads(file.read_text())["neighbours"] == {
        "beagle": [2, 4], "tabby": [5], "pug": [0, 4], "tench": [], "husky": [0, 2], "manx": [1],
    }  # fmt: skip
    names = ("beagle", "tabby", "pug", "tench", "husky", "manx")
    config = ProtocolConfig(task="closed_world", candidates=2, **settings)
    shown = [shown_candidates(config, names, "beagle", str(item), None) for item in range(20)]
    assert {frozenset(row) for row in shown} == {frozenset((0, 2)), frozenset((0, 4))}
    assert shown == [shown_candidates(config, names, "beagle", str(item), None) for item in range(20)]
    assert "a parent in common with it in the tree" in candidate_set(config)["chosen"]
    with pytest.raises(DataError, match="its class 'tench' has no siblings"):
        shown_candidates(config, names, "tench", "a", None)
    with pytest.raises(DataError, match=r"its class 'manx' has 1 siblings .* needs 2; lower it to 2"):
        shown_candidates(replace(config, candidates=3), names, "manx", "a", None)


def test_a_tree_without_two_siblings_of_the_list_is_refused(tmp_path, tree_file, capsys):
    (tmp_path / "two.json").write_text(json.dumps(["beagle", "tench"]))
    for given, message in (
        (["--tree", str(tmp_path / "tree.json"), "--classes", str(tmp_path / "two.json")], "no two of the 2 classes"),
        (["--tree", str(tmp_path / "tree.json")], "--tree with --classes"),
        ([], "--tree with --classes"),
    ):
        with pytest.raises(SystemExit):
            similar_classes.main([*given, "--output", str(tmp_path / "f.json")])
        assert message in capsys.readouterr().err
