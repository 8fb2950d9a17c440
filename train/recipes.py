"""Prints training recipes next to each other: `python -m train.recipes [NAME or YAML ...] [--json]`.

A line a setting, marked where the recipes differ; below the table each value with its source: a section of the paper, a
file of the authors' code, or our reason. `recipe:` in a run's file chooses one (`configs.recipe`).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from configs.command_line import add_json, command_parser, emit_json, exit_on_user_error
from configs.errors import UserError
from configs.merge import merge_layers
from configs.recipe import RecipeSetting, read_recipe, recipe_layers, recipe_names
from configs.run import RunConfig

LEFT = "-"  # left to the run's file
Recipes = Mapping[str, Mapping[str, RecipeSetting]]


def as_json(recipes: Recipes) -> dict[str, Any]:
    """The content of --json; a recipe that leaves a setting to the run's file is not in its `values`."""
    settings = []
    for key in _keys(recipes):
        chosen = {name: made[key] for name, made in recipes.items() if key in made}
        settings.append(
            {
                "setting": key,
                "differs": _differs(recipes, key),
                "values": {name: setting.value for name, setting in chosen.items()},
                "sources": {name: setting.source for name, setting in chosen.items()},
            }
        )
    return {"recipes": list(recipes), "settings": settings}


def as_text(recipes: Recipes) -> str:
    """The table, then each setting's values with their sources."""
    keys, titles = _keys(recipes), [name.rsplit("/", 1)[-1] for name in recipes]
    cells = {key: [_value_text(made[key].value) if key in made else LEFT for made in recipes.values()] for key in keys}
    columns = [max(len(title), *(len(row[i]) for row in cells.values())) for i, title in enumerate(titles)]
    longest = max(map(len, keys))
    rows = [_row("", "setting", longest, titles, columns)]
    rows += [_row("*" if _differs(recipes, key) else "", key, longest, cells[key], columns) for key in keys]
    rows.append(f"\n* the recipes differ; {LEFT} left to the run's file; --set overrides any of them\n")
    for key in keys:
        rows.append(key)
        for title, made in zip(titles, recipes.values(), strict=True):
            if key in made:
                rows.append(f"    {title}: {_value_text(made[key].value)}  # {made[key].source}")
    return "\n".join(rows)


def _keys(recipes: Recipes) -> list[str]:
    """All settings, in the order of the recipe with the most."""
    return list(dict.fromkeys(key for made in sorted(recipes.values(), key=len, reverse=True) for key in made))


def _differs(recipes: Recipes, key: str) -> bool:
    return len({_value_text(made[key].value) if key in made else LEFT for made in recipes.values()}) > 1


def _row(mark: str, name: str, longest: int, values: Sequence[str], columns: Sequence[int]) -> str:
    cells = "  ".join(value.ljust(width) for value, width in zip(values, columns, strict=True))
    return f"{mark:<2}{name:<{longest}}  {cells}".rstrip()


def _value_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def main(argv: Sequence[str] | None = None) -> None:
    """Print recipes next to each other. Exits with code 2 for an unknown one."""
    parser = command_parser(__doc__)
    parser.add_argument("recipes", nargs="*", metavar="NAME", help="shipped recipes or YAML files (default: all)")
    add_json(parser, "the table")
    arguments = parser.parse_args(argv)
    try:
        recipes = {name: read_recipe(name) for name in arguments.recipes or recipe_names()}
        for name in recipes:
            merge_layers(RunConfig, recipe_layers(name))  # names a setting that does not exist
    except UserError as error:
        exit_on_user_error(error)
    if not emit_json(arguments.json, as_json(recipes)):
        print(as_text(recipes))


if __name__ == "__main__":
    main()
