"""The house rules, checked: who may import whom, what an __init__ holds."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("configs", "data_prep", "train", "eval", "launch")
MAY_IMPORT = {
    "configs": set(),
    "data_prep": {"configs"},
    "train": {"configs", "data_prep"},
    "eval": {"configs", "data_prep", "train"},
    "launch": {"configs", "data_prep"},
}
EVAL_MAY_IMPORT_OF_TRAIN = {"chat", "kernel_choice", "models", "exported_model", "loggers", "toy"}
BENCHMARKS_OF_EVAL_MAY_IMPORT_OF_TRAIN = EVAL_MAY_IMPORT_OF_TRAIN | {"benchmarks", "distributed"}
"""`eval.benchmarks.gpu` measures training and evaluation on one model in one process."""
EVAL_ORDER = (
    *("types", "scorers", "class_scores", "tasks", "models", "runner", "metrics", "graders", "probes", "reports"),
    *("paper",),
    *("programs", "benchmarks"),
)
"""Folders of `eval`, each of which may import those before it; `programs` are the files at its top."""
INTERFACE = "vlm_classify"
"""The Python interface, a file beside the folders: it may import all of them, and none of them imports it."""
MODULES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))


@cache
def nodes(file: Path) -> list[ast.AST]:
    """The syntax tree of a module, the module first."""
    return list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


@cache
def imports(file: Path) -> set[str]:
    """Modules that `file` imports anywhere in it."""
    found: set[str] = set()
    for node in nodes(file):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imports_against_the_flow(file: Path) -> Iterator[str]:
    """What is wrong with the imports of one module."""
    folder = file.relative_to(ROOT).parts[0]
    for name in imports(file):
        top = name.split(".")[0]
        if top == INTERFACE:
            yield f"{file} may not import {name}"
        if top in FOLDERS and top != folder and top not in MAY_IMPORT[folder]:
            yield f"{file}: {folder} may not import {name}"
        if folder == "eval" and name.startswith("train."):
            benchmark = file.relative_to(ROOT).parts[1] == "benchmarks"
            allowed = BENCHMARKS_OF_EVAL_MAY_IMPORT_OF_TRAIN if benchmark else EVAL_MAY_IMPORT_OF_TRAIN
            if name.split(".")[1] not in allowed:
                yield f"{file} may not import {name}"
        if folder in ("configs", "launch") and top in ("torch", "transformers", "deepspeed", "webdataset"):
            yield f"{file} must stay light"


def test_imports_point_back_along_the_data_flow():
    assert [fault for file in MODULES for fault in imports_against_the_flow(file)] == []


TRAIN_LEVELS = (
    {"supervision", "distributed", "chat"},  # signals and heartbeats; collectives; turns to tokens
    {"models"},
    {"data"},  # batches for a model
    {"optimization"},  # a model and its batches become updates
    {"checkpoints"},  # stores the optimization state
    {"spikes"},  # watches updates, goes back to checkpoints
    {"loggers"},  # reports all of the above
    {"recipes"},  # the modules directly in train/: plan, build, trainer, ...
    {"tools", "toy"},
    {"benchmarks"},
    {"finetune"},  # the entry point: --dry-run prints the preview of tools
)


def train_folder(module: str) -> str:
    """Folder of a module of `train`; those directly in it are `recipes`, but for the entry point."""
    name = module.split(".")[1]
    if (ROOT / "train" / name).is_dir():
        return name
    return "finetune" if name in ("finetune", "finetuning") else "recipes"


def test_folders_of_train_import_only_those_listed_before_them():
    level = {folder: number for number, folders in enumerate(TRAIN_LEVELS) for folder in folders}
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in MODULES}
    pairs: set[tuple[str, str]] = set()
    for name, file in modules.items():
        if not name.startswith("train.") or file.name == "__init__.py":
            continue
        for target in imports(file) & modules.keys():
            here, there = train_folder(name), train_folder(target) if target.startswith("train.") else ""
            if there and here != there:
                pairs.add((here, there))
                assert level[there] < level[here], f"{name} may not import {target}"
    assert len(pairs) > 20, "imports between folders were found at all"


def test_no_module_imports_itself_in_a_circle():
    names = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in MODULES}
    edges = {name: {target for target in imports(file) if target in names} for name, file in names.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for target in edges[name]:
                visit(target, (*path, name))
            done.add(name)

    for name in names:
        visit(name, ())
    assert sum(map(len, edges.values())) > 100, "edges were found at all"


def eval_folder(module: str) -> str:
    """The folder of a module of `eval`: `types` for eval.types, `programs` for the other files at its top."""
    name = module.split(".")[1]
    return name if name == "types" or (ROOT / "eval" / name).is_dir() else "programs"


def test_folders_of_eval_import_in_one_direction():
    assert {file.name for file in (ROOT / "eval").iterdir() if (file / "__init__.py").is_file()} < set(EVAL_ORDER)
    backwards: dict[tuple[str, str], list[str]] = {}
    for file in MODULES:
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        if not module.startswith("eval.") or file.name == "__init__.py":
            continue
        for target in imports(file):
            if target.startswith("eval.") and EVAL_ORDER.index(eval_folder(target)) > EVAL_ORDER.index(
                eval_folder(module)
            ):
                backwards.setdefault((eval_folder(module), eval_folder(target)), []).append(f"{module} -> {target}")
    assert not backwards


def test_every_module_says_what_it_is_and_none_is_called_utils():
    without = [file for file in MODULES if not ast.get_docstring(nodes(file)[0])]
    nameless = [file for file in MODULES if file.stem in ("utils", "common", "helpers")]
    assert (without, nameless) == ([], [])


def test_an_init_only_checks_the_interpreter():
    for file in MODULES:
        if file.name == "__init__.py":
            interpreter_check = ["import configs.interpreter"] if file.parent.parent == ROOT else []
            assert [ast.unparse(statement) for statement in nodes(file)[0].body[1:]] == interpreter_check, file


def test_an_installed_copy_has_every_package_and_every_data_file():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    inits = [file.relative_to(ROOT).parent for folder in FOLDERS for file in (ROOT / folder).rglob("__init__.py")]
    assert settings["py-modules"] == [INTERFACE]
    assert sorted(settings["packages"]) == sorted(".".join(folder.parts) for folder in inits)
    patterns = [(name.replace(".", "/"), p) for name, found in settings["package-data"].items() for p in found]
    matched = {file for folder, pattern in patterns for file in (ROOT / folder).glob(pattern)}
    kept = {file for folder in FOLDERS for file in (ROOT / folder).rglob("*") if file.is_file()}
    assert {f for f in kept - matched if f.suffix not in (".py", ".pyc")} == set()


def test_the_python_interface_imports_nothing_slow_before_it_is_used():
    code = f"import {INTERFACE}, sys; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_login_node_can_launch_without_torch():
    modules = ("submit", "preflight", "watch", "demo", "dashboard")
    code = f"import sys, {', '.join(f'launch.{name}' for name in modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_nothing_runs_code_from_data_or_a_shell():
    for file in MODULES:
        text = file.read_text(encoding="utf-8")
        for banned in ("shell=True", "trust_remote_code=True", "pickle.load", "os.system", "extractall("):
            assert banned not in text, f"{file} has {banned}"
        assert "torch.load(" not in text or "weights_only=True" in text


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [Path(line) for line in done.stdout.splitlines()]


def test_no_file_speaks_of_a_particular_machine():
    pattern = re.compile("/" + r"(work|root|home/\w+|Users/\w+)/")
    for file in tracked():
        if file.suffix in (".safetensors", ".png", ".json"):
            continue
        found = pattern.search((ROOT / file).read_text(encoding="utf-8", errors="ignore"))
        assert not found, f"{file} has {found.group(0)}"


FILE_NAMES = re.compile(
    r"(manifest|state|export|classes|probe|guidance|report|evaluation|features|summary|scoreboard|identity|jobs)\.json"
    r"|(metrics|events|predictions.*)\.jsonl|index\.npy|requeue|hang-rank-.*|predictions-.*|refused-.*|reproduction-.*"
    r"|(weights|optimizer)\.safetensors|step-.*|export-step-.*|postmortem\.html|report\.(md|html)|setup\.sh|lengths-.*"
    r"|\.(export|lengths)\.lock|config\.json"
)
NAMERS = ("configs/run_dir.py", "configs/eval_dir.py", "configs/shard_dir.py")


def strings(file: Path) -> set[str]:
    """The string constants of a module, docstrings left out; of an f-string its first part."""
    prose = {id(node.value) for node in nodes(file) if isinstance(node, ast.Expr)}
    return {
        node.value
        for node in nodes(file)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    }


def test_the_files_of_runs_shards_and_evaluations_are_named_in_one_place():
    named = {str(file.relative_to(ROOT)): sorted(filter(FILE_NAMES.fullmatch, strings(file))) for file in MODULES}
    assert all(named.pop(namer) for namer in NAMERS), "the pattern finds nothing any more"
    spelled = {file: names for file, names in named.items() if names}
    assert not spelled, "take the path from configs/run_dir.py, eval_dir.py or shard_dir.py"


def test_every_page_is_written_with_the_index_of_all_runs():
    texts = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in MODULES}
    assert len([file for file, text in texts.items() if re.search(r"write_(?:page|result)\(", text)]) >= 10
    assert {file for file, text in texts.items() if ".html(" in text} == {"data_prep/page.py", "data_prep/run_index.py"}
