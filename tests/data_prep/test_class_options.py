"""k images of each class, and half of the classes, as options of any source."""

import re
from pathlib import Path

import pytest

from configs.data import DataConfig, SourceConfig
from configs.errors import ConfigError, DataError
from data_prep import registry
from data_prep.readers.class_options import ClassOptions
from data_prep.registry import check_source, open_source
from data_prep.sample import Drop, Sample, Source
from data_prep.shards import ShardSet
from data_prep.source_match import open_shards
from tests.data_prep.conftest import fails, run

NAMES = ("ant", "bee", "cat", "dog", "elk")


def samples(per_class: int, names: tuple[str, ...] = NAMES) -> list[Sample]:
    return [
        Sample(id=f"{n}/{i}", turns=(), label=k, label_name=n) for k, n in enumerate(names) for i in range(per_class)
    ]


def ids(source: Source) -> list[str]:
    return [record.id for record in source.records]


def kept(per_class: int = 9, **options) -> Source:
    return ClassOptions(**options).apply(Source(NAMES, samples(per_class)))


def test_the_images_of_fewer_shots_are_among_those_of_more_and_another_seed_takes_others():
    chosen = [set(ids(kept(shots=k))) for k in (1, 2, 4, 8)]
    assert [len(some) for some in chosen] == [5, 10, 20, 40]
    assert chosen[0] < chosen[1] < chosen[2] < chosen[3]
    assert ids(kept(shots=2)) == ids(kept(shots=2)) != ids(kept(shots=2, shots_seed=1))
    assert all(len({i for i in chosen[2] if i.startswith(name)}) == 4 for name in NAMES)


def test_the_chosen_images_keep_the_order_of_the_source_and_do_not_depend_on_it():
    source = samples(9)
    backwards = ClassOptions(shots=3).apply(Source(NAMES, source[::-1]))
    assert ids(backwards) == ids(kept(shots=3))[::-1]


def test_the_halves_are_the_first_and_the_second_of_the_class_list_and_numbered_anew():
    base, new = kept(1, class_part="base"), kept(1, class_part="new")
    assert (base.class_names, new.class_names) == (("ant", "bee", "cat"), ("dog", "elk"))
    assert [(r.id, r.label, r.label_name) for r in new.records] == [("dog/0", 0, "dog"), ("elk/0", 1, "elk")]
    assert ids(base) + ids(new) == ids(kept(1))


def test_drawn_halves_divide_the_classes_and_depend_on_their_seed_alone():
    def drawn(part: str, seed: int) -> tuple[str, ...]:
        return kept(1, class_part=part, class_seed=seed).class_names

    halves = [(drawn("base", seed), drawn("new", seed)) for seed in range(6)]
    assert all(sorted(base + new) == sorted(NAMES) and len(base) == 3 for base, new in halves)
    assert len({base for base, _ in halves}) > 1
    again = ClassOptions(class_part="base", class_seed=0).half(NAMES)
    assert tuple(NAMES[index] for index in again) == halves[0][0]


def test_classes_of_one_name_are_in_one_half():
    names = ("missile", "ant", "missile", "bee")
    for seed in range(8):
        chosen = ClassOptions(class_part="base", class_seed=seed).half(names)
        assert (0 in chosen) == (2 in chosen)


def test_shots_within_a_half_come_from_its_classes_alone():
    assert {r.label_name for r in kept(shots=2, class_part="new").records} == {"dog", "elk"}
    full, half = kept(shots=2), kept(shots=2, class_part="new")
    assert set(ids(half)) < set(ids(full))


def test_a_class_of_too_few_images_is_an_error_unless_it_is_kept():
    few = [*samples(4, NAMES[:4]), Sample(id="elk/0", turns=(), label=4, label_name="elk")]
    with pytest.raises(DataError, match=r"1 of 5 classes have fewer than 4 images: 'elk' \(1\); lower shots"):
        ClassOptions(shots=4).apply(Source(NAMES, few))
    source = ClassOptions(shots=4, shots_short="keep").apply(Source(NAMES, few))
    assert len(ids(source)) == 17
    assert any("'elk' (1); all of them are taken" in note for note in source.notes)
    assert source.notes[0] == "shots 4 (shots_seed 0): 17 records"


def test_records_that_cannot_be_used_are_named_where_images_are_chosen_and_reported_where_not():
    records = [Drop("ant/x", "not an image file: its name ends in .gz"), *samples(2)]
    shots = ClassOptions(shots=1).apply(Source(NAMES, records))
    reason = "records that cannot be used: 1, such as ant/x (not an image file: its name ends in .gz)"
    assert shots.notes[1] == f"none is chosen from {reason}"
    with pytest.raises(DataError, match=re.escape(f"{reason}; lower shots")):
        ClassOptions(shots=3).apply(Source(NAMES, records))
    assert not any(isinstance(record, Drop) for record in shots.records)
    half = ClassOptions(class_part="new").apply(Source(NAMES, records))
    assert [type(record) for record in half.records][:1] == [Drop]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": 0}, "shots is 0; it must be at least 1"),
        ({"shots": "four"}, "option shots of reader toy_world is 'four'; it must be int or nothing"),
        ({"shots": True}, "option shots of reader toy_world is True"),
        ({"class_part": "old"}, "class_part is 'old'; give base or new"),
        ({"class_seed": 1}, "class_seed is 1 without class_part"),
        ({"shots_seed": 1}, "have no effect without shots"),
        ({"shots": 1, "shots_short": "skip"}, "shots_short is 'skip'; choose error or keep"),
        ({"shot": 1}, "unknown option 'shot'; did you mean shots"),
    ],
)
def test_options_that_cannot_be_are_refused_before_data_is_read(options, message):
    data = DataConfig(sources={"it": SourceConfig(reader="toy_world", options={"part": "test"} | options)})
    with pytest.raises(ConfigError, match=message):
        check_source(data, "it")


def test_conversations_and_single_classes_are_refused():
    with pytest.raises(DataError, match="these records have none"):
        ClassOptions(shots=1).apply(Source((), []))
    with pytest.raises(DataError, match="the record talk has none"):
        ClassOptions(shots=1).apply(Source(NAMES, [Sample(id="talk", turns=())]))
    with pytest.raises(DataError, match="there is only one, 'ant'"):
        ClassOptions(class_part="new").apply(Source(("ant",), samples(2, ("ant",))))


def test_a_source_that_can_be_read_only_once_is_chosen_from_and_read_again(monkeypatch):
    monkeypatch.setattr(registry, "find_reader", lambda _: lambda path=None: Source(NAMES, iter(samples(3))))
    data = DataConfig(sources={"it": SourceConfig(reader="once", options={"shots": 1, "class_part": "new"})})
    source = open_source(data, "it")
    assert ids(source) == ids(source)
    assert [record.label for record in source.records] == [0, 1]


def test_shards_hold_the_chosen_records_under_the_class_list_of_their_half(
    class_folders, write_config, tmp_path, capsys
):
    options = "{shots: 2, class_part: new}"
    config = write_config(class_folders, options=options)
    run("--config", config, "--processes", 2)
    assert "1 of 2 classes (new, in their order), shots 2 (shots_seed 0): 2 records" in capsys.readouterr().err
    shards = ShardSet.open(tmp_path / "shards/pets")
    assert (shards.manifest.class_names, shards.manifest.histogram) == (("wild dog",), (2,))
    assert shards.sample(0).label == 0
    source = SourceConfig(reader="image_folder", path=str(class_folders), options={"shots": 2, "class_part": "new"})
    data = DataConfig(shards=str(tmp_path / "shards"), sources={"pets": source})
    open_shards(data, "pets")
    spelled = {"shots": 2, "class_part": "new", "shots_seed": 0, "class_seed": None}
    open_shards(DataConfig(shards=data.shards, sources={"pets": replaced(source, spelled)}), "pets")
    with pytest.raises(DataError, match=r"options.shots is 3 and was 2"):
        open_shards(DataConfig(shards=data.shards, sources={"pets": replaced(source, spelled | {"shots": 3})}), "pets")
    more = "{shots: 3, class_part: new}"
    assert "--rebuild" in fails(capsys, "--config", write_config(class_folders, options=more))


def replaced(source: SourceConfig, options: dict) -> SourceConfig:
    return SourceConfig(reader=source.reader, path=source.path, options=options)


def test_shots_choose_as_per_class_limit_does(class_folders: Path):
    def chosen(**options) -> list[str]:
        source = SourceConfig(reader="image_folder", path=str(class_folders), options=options)
        return ids(open_source(DataConfig(sources={"it": source}), "it"))

    assert chosen(shots=3) == chosen(per_class_limit=3)
