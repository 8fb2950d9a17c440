"""Writes the generated parts of the documentation: `python docs/generate.py`; `--check` only compares.

`docs/configuration.md` is made whole from the typed settings. Other pages hold parts between
`<!-- generated: NAME -->` and `<!-- end -->`: commands, readers of data sets, the differences between the paper and its
released code, and the tree of files. `tests/test_docs.py` runs `--check`.
"""

import argparse
import ast
import dataclasses
import difflib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from configs.captions import CaptionConfig
from configs.evaluation import EvalConfig
from configs.run import RunConfig
from configs.section import Section, limits_in_words, section_in
from configs.wikiqa import WikiqaConfig
from data_prep.registry import READERS
from eval.paper.audit import AUDIT
from launch.command_table import COMMANDS, PROGRAM, STAGES, TRAIN

FAMILY_FILES = ("types.py", "trainable.py")
FOLDERS = ("configs", "data_prep", "train", "eval", "launch", "slurm")
CONFIGURATION = """\
# Configuration

```console
python -m train.finetune --config configs/demo.yaml --print-config     # every setting, and where its value came from
```

A run is a YAML file of the settings on this page. An evaluation is a separate YAML file.

- A file may inherit from another: `base: other.yaml`, a path relative to the file. Mappings are merged: the file adds
  entries to those of its base, or replaces single ones. Lists and single values are replaced as a whole. In the options
  of a source, null removes an entry: `image_roots: {coco: data/coco, gqa: null}`; a list or a text in place of a
  mapping replaces all of it.
- The command line overrides both: `--set optim.lr_projector=1e-5`. It may be repeated.
- An unknown key, a wrong type or an impossible combination ends the program with exit code 2 and one line that says
  what to change. Nothing is allocated before this check.
- Keys, tokens and passwords are rejected in files and after `--set`, because the configuration is saved with the run.
  Put them in environment variables.

**Changes the result** marks the settings that decide the trained weights or the stored answers. A run may be resumed
with other values of all other settings (number of ranks, micro-batch, workers, paths, intervals). A changed value of a
marked setting is an error that names the difference, unless it is accepted: `--accept-change optim.lr_projector`.

This page is generated from the classes in `configs/` by `python docs/generate.py`. The same text is printed by
`python -m train.finetune --help` and `python -m eval.run --help`.
"""


def configuration() -> str:
    """The page of all settings, one table a section."""
    parts = [f"{CONFIGURATION}\n"]
    for title, schema in (("A run", RunConfig), ("An evaluation", EvalConfig)):
        parts.append("\n".join((f"## {title}\n", *_tables("", schema, schema.__doc__), "")))
    for title, program_schema in (("Captions", CaptionConfig), ("ImageWikiQA", WikiqaConfig)):
        parts.append("\n".join((f"## {title}\n", *_own_table("", program_schema, program_schema.__doc__))))
        for spec in dataclasses.fields(program_schema):
            inner = section_in(spec)
            if inner is not None and spec.name not in ("data", "api"):
                parts.append(f"\n### `{spec.name}`\n\n")
                parts.append("\n".join(_own_table(f"{spec.name}.", inner, inner.__doc__)))
        parts.append("\nThe sections `data` and `api` are those above.\n")
    return "".join(parts).rstrip() + "\n"


def _tables(prefix: str, schema: type[Section], doc: str | None, decides: bool = True) -> Iterator[str]:
    """Lines: `doc`, the table of the section's own settings, then a sub-section for each section in it.

    `decides` is whether settings of this section can change the result at all.
    """
    yield from _own_table(prefix, schema, doc, decides)
    for spec in dataclasses.fields(schema):
        if inner := section_in(spec):
            name = f"{prefix}{spec.name}" if spec.type == inner else f"{prefix}{spec.name}.NAME"
            yield f"### `{name}`\n"
            yield from _tables(f"{name}.", inner, inner.__doc__, decides and spec.metadata["changes_result"])


def _own_table(prefix: str, schema: type[Section], doc: str | None, decides: bool = True) -> Iterator[str]:
    """Lines: `doc`, and the table of the section's own settings."""
    specs = dataclasses.fields(schema)
    yield f"{' '.join((doc or '').split())}\n"
    rows = [_row(prefix, spec, decides) for spec in specs if section_in(spec) is None or spec.type != section_in(spec)]
    if rows:
        yield "| setting | default | meaning | changes the result |\n| --- | --- | --- | --- |"
        yield from rows
        yield ""


def _row(prefix: str, spec: "dataclasses.Field[Any]", decides: bool) -> str:
    meaning = " ".join([spec.metadata["doc"], *limits_in_words(spec, quote="`")])
    marked = "yes" if decides and spec.metadata["changes_result"] else ""
    return f"| `{prefix}{spec.name}` | {_default(spec)} | {_cell(meaning)} | {marked} |"


def _default(spec: "dataclasses.Field[Any]") -> str:
    value = spec.default if spec.default_factory is dataclasses.MISSING else spec.default_factory()
    if value is dataclasses.MISSING:
        return "required"
    if value in ((), {}):
        return "empty"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple):
        return _cell(f"`{', '.join(map(str, value))}`")
    return _cell(f"`{value}`" if value != "" else "empty")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def readers() -> str:
    """A table of the readers with their options."""
    lines = ["| reader | reads | options |", "| --- | --- | --- |"]
    for name, place in READERS.items():
        module, _, function = place.partition(":")
        read = getattr(import_module(module), function)
        options = [p for p in inspect.signature(read).parameters.values() if p.kind is p.KEYWORD_ONLY]
        doc = " ".join((inspect.getdoc(read) or "").split("\n\n")[0].split())
        names = ", ".join(f"`{p.name}`" for p in options) or "none"
        lines.append(f"| `{name}` | {_cell(doc)} | {names} |")
    return "\n".join(lines)


def differences() -> str:
    """A table of where the paper's released code differs from the paper."""
    lines = ["| | the authors' code | the paper | settings | default | note |", "| --- | --- | --- | --- | --- | --- |"]
    for difference in AUDIT:
        settings = ", ".join(f"`{name}`" for name in difference.settings)
        cells = (difference.number, difference.description, difference.paper, settings, difference.default)
        lines.append(f"| {' | '.join(map(_cell, (*cells, difference.reason)))} |")
    return "\n".join(lines)


def commands() -> str:
    """A table of all programs for each stage."""
    lines: list[str] = []
    for stage, about in STAGES.items():
        lines += [f"## {about}", "", "| command | the same as | does |", "| --- | --- | --- |"]
        for command in COMMANDS:
            if command.stage == stage:
                program = "deepspeed train/finetune.py" if command == TRAIN else f"python -m {command.module}"
                lines.append(f"| `{PROGRAM} {command.name}` | `{program}` | {_cell(command.about)} |")
        lines.append("")
    return "\n".join(lines[:-1])


def family() -> str:
    """A table of what a model family provides, from its base classes."""
    files = [ROOT / "train" / "models" / name for name in FAMILY_FILES]
    nodes = [node for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body]
    lines: list[str] = []
    for base in (node for node in nodes if isinstance(node, ast.ClassDef)):
        lines += [f"### `{base.name}`", "", ast.get_docstring(base) or "", ""]
        lines += ["| member | | meaning |", "| --- | --- | --- |", *_members(base), ""]
    return "\n".join(lines[:-1])


def _members(base: ast.ClassDef) -> Iterator[str]:
    """Rows: the attributes of a class, documented by the text below each, and its methods."""
    for node, below in zip(base.body, [*base.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(below, ast.Expr):
            required = "required" if node.value is None else ""
            yield f"| `{ast.unparse(node.target)}` | {required} | {_cell(ast.literal_eval(below.value))} |"
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            marks = {ast.unparse(mark) for mark in node.decorator_list}
            arguments = "" if marks & {"property", "cached_property"} else f"({_parameters(node)})"
            required = "required" if "abstractmethod" in marks else ""
            doc = " ".join((ast.get_docstring(node) or "").split())
            yield f"| `{node.name}{arguments}` | {required} | {_cell(doc)} |"


def _parameters(node: ast.FunctionDef) -> str:
    names = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
    return ", ".join(name for name in names if name not in ("self", "cls"))


def import_order() -> str:
    """The order of the folders of `train` and `eval`, as `tests/test_architecture.py` lists it."""
    module = ast.parse((ROOT / "tests" / "test_architecture.py").read_text(encoding="utf-8"))
    lists = {ast.unparse(node.targets[0]): node.value for node in module.body if isinstance(node, ast.Assign)}
    levels = [
        ", ".join(f"`{name}`" for name in sorted(level))
        for level in ast.literal_eval(ast.unparse(lists["TRAIN_LEVELS"]))
    ]
    names = [f"`{node.value!s}`" for node in ast.walk(lists["EVAL_ORDER"]) if isinstance(node, ast.Constant)]
    return f"- `train`: {' ← '.join(levels)}\n- `eval`: {' ← '.join(names)}"


def tree() -> str:
    """The files of the product, each with the first sentence of its docstring."""
    files = sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".sbatch"))
    interface = ROOT / "vlm_classify.py"
    lines = [f"{interface.name:<28}{_first_sentence(interface)}"]
    for folder in dict.fromkeys(file.parent for file in files):
        init = folder / "__init__.py"
        about = _first_sentence(init) if init.exists() else "job scripts"
        lines.append(f"{str(folder.relative_to(ROOT)) + '/':<28}{about}")
        inside = [file for file in files if file.parent == folder and file.name != "__init__.py"]
        lines += [f"  {file.name:<26}{_first_sentence(file)}".rstrip() for file in inside]
    return "\n".join(["```text", *lines, "```"])


def _first_sentence(file: Path) -> str:
    if file.suffix != ".py":
        return ""
    doc = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    sentence = re.split(r"(?<=[.?!])\s|: `|:$", " ".join(doc.split()))[0].rstrip(":")
    return sentence.rstrip(".")


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "adding_a_model.md": {"family": family},
    "commands.md": {"commands": commands},
    "data.md": {"readers": readers},
    "reproduction.md": {"differences": differences},
    "development.md": {"import order": import_order, "tree": tree},
}


def pages() -> dict[Path, str]:
    """What every page with a generated part must contain."""
    wanted = {ROOT / "docs" / "configuration.md": configuration()}
    for name, parts in PARTS.items():
        page = ROOT / "docs" / name
        text = page.read_text(encoding="utf-8")
        for part, make in parts.items():
            before, start, rest = text.partition(f"<!-- generated: {part} -->\n")
            _, end, after = rest.partition("<!-- end -->")
            assert end, f"{page} has no part `<!-- generated: {part} -->`"
            text = f"{before}{start}{make()}\n{end}{after}"
        wanted[page] = text
    return wanted


def main(argv: Sequence[str] | None = None) -> None:
    """Write the pages, or compare them. Exits with code 1 if `--check` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, write nothing; exit code 1 if a page differs")
    arguments = parser.parse_args(argv)
    stale = False
    for page, text in pages().items():
        found = page.read_text(encoding="utf-8") if page.exists() else ""
        if found == text:
            continue
        if arguments.check:
            stale = True
            name = str(page.relative_to(ROOT))
            lines = difflib.unified_diff(found.splitlines(), text.splitlines(), name, "generated", n=0, lineterm="")
            print("\n".join(list(lines)[:20]))
        else:
            page.write_text(text, encoding="utf-8")
            print(f"wrote {page.relative_to(ROOT)}")
    if stale:
        sys.exit("generated pages differ from the code: run python docs/generate.py")


if __name__ == "__main__":
    main()
