"""The options of a program, read from its source: importing it would take the seconds that torch needs.

`tests/launch/test_command_table.py` compares them with the real parsers.
"""

import ast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARSER_MAKERS = ("command_parser", "config_parser")


@dataclass
class ProgramOptions:
    """Option names, each with the values it may have (empty: any), and the class of its settings, if it has any."""

    values: dict[str, list[str]] = field(default_factory=lambda: {"--help": []})
    schema: str | None = None


@cache
def options_of(module: str) -> ProgramOptions:
    """Options of the parser that `module` makes.

    >>> options_of("eval.run").schema
    'EvalConfig'
    """
    found = ProgramOptions()
    for function in _functions(module).values():
        if any(_name(call) in PARSER_MAKERS for call in _calls(function)):
            _collect(module, function, found)
    return found


def _collect(module: str, function: ast.FunctionDef, found: ProgramOptions) -> None:
    """Add the options that `function` adds to a parser, and those of functions that it gives a parser to."""
    parsers = {argument.arg for argument in function.args.args}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name):
            parsers.add(node.targets[0].id)
    for call in _calls(function):
        name = _name(call)
        if name == "add_argument":
            _add(call, found)
        elif name == "config_parser" and isinstance(call.args[1], ast.Name):
            found.schema = call.args[1].id
        given = any(isinstance(argument, ast.Name) and argument.id in parsers for argument in call.args)
        if name == "config_parser" or (given and isinstance(call.func, ast.Name) and "parser" in parsers):
            where = name if name in _functions(module) else None
            source = module if where else _imported_from(module).get(name, "")
            if source and name in _functions(source) and (source, name) != (module, function.name):
                _collect(source, _functions(source)[name], found)


def _add(call: ast.Call, found: ProgramOptions) -> None:
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if isinstance(help_text := keywords.get("help"), ast.Attribute) and help_text.attr == "SUPPRESS":
        return
    items = getattr(keywords.get("choices"), "elts", ())
    values = [str(item.value) for item in items if isinstance(item, ast.Constant)]
    if len(values) < len(items):  # some are known at run time only
        values = []
    for argument in call.args:
        if isinstance(argument, ast.Constant) and str(argument.value).startswith("--"):
            found.values[str(argument.value)] = values


def _calls(function: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(function) if isinstance(node, ast.Call)]


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


@cache
def _tree(module: str) -> ast.Module | None:
    file = (ROOT / module.replace(".", "/")).with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else None


@cache
def _functions(module: str) -> dict[str, ast.FunctionDef]:
    tree = _tree(module)
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)} if tree else {}


@cache
def _imported_from(module: str) -> dict[str, str]:
    """Module of each name that `module` imports with `from ... import`."""
    tree = _tree(module)
    return {
        alias.name: node.module
        for node in (ast.walk(tree) if tree else ())
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
