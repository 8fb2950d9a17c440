"""`python -m train.recipes`: a line a setting, what differs is marked, every value has its source."""

import json

import pytest

from configs.recipe import read_recipe, recipe_names
from train.recipes import main


def test_the_command_prints_a_line_a_setting_and_marks_what_differs(capsys):
    main([])
    table, _, sources = capsys.readouterr().out.partition("\n\n")
    rows = {line[2:].split()[0]: line for line in table.splitlines()}
    assert rows.pop("setting").split() == ["setting", *recipe_names()]
    recipes = [read_recipe(name) for name in recipe_names()]
    assert set(rows) == set().union(*recipes)
    for key, line in rows.items():
        values = [recipe[key].value if key in recipe else "-" for recipe in recipes]
        assert line.startswith("*") == any(value != values[0] for value in values), key
    assert rows["optim.clip_norm"].split() == ["*", "optim.clip_norm", "1.0", "0.0", "0.0", "0.0"]
    for name, recipe in zip(recipe_names(), recipes, strict=True):
        for setting in recipe.values():
            assert f"    {name}: " in sources and f"# {setting.source}\n" in f"{sources}\n"


def test_json_holds_values_and_sources_of_the_named_recipes_alone(capsys, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("optim.clip_norm: {value: 0.1, source: measured}\n")
    main(["paper", str(own), "--json"])
    values = json.loads(capsys.readouterr().out)
    assert values["recipes"] == ["paper", str(own)]
    clip = next(setting for setting in values["settings"] if setting["setting"] == "optim.clip_norm")
    assert clip["differs"] and clip["values"] == {"paper": 0.0, str(own): 0.1}
    assert clip["sources"][str(own)] == "measured"


@pytest.mark.parametrize(
    ("text", "message"), [(None, "choose one of clean"), ("optim.clip: {value: 1, source: x}", "optim.clip")]
)
def test_an_unknown_recipe_or_setting_is_one_line_and_exit_code_2(capsys, tmp_path, text, message):
    file = tmp_path / "own.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit) as left:
        main(["paper", str(file)])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
