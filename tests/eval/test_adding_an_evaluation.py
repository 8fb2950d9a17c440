"""The examples of docs/adding_an_evaluation.md: written to files as the page says, registered, and run."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

from configs.errors import ConfigError
from configs.eval_dir import EvalDir
from configs.protocol import ProtocolConfig
from eval.models.registry import BACKENDS, backend_name
from eval.run import main
from eval.runner.predictions import read_records
from eval.scorers.registry import SCORERS, find_scorer
from eval.tasks.registry import TASKS, make_task
from eval.types import Reference

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "adding_an_evaluation.md").read_text(encoding="utf-8")
REGISTRIES = {"SCORERS": SCORERS, "TASKS": TASKS, "BACKENDS": BACKENDS}


@pytest.fixture
def page(tmp_path, monkeypatch) -> list[str]:
    """Does what the page says, in a temporary folder; returns the registered names."""
    registered = []
    for file, rest in re.findall(r"```python\n# (eval/\S+?\.py)(.*?)```", PAGE, re.DOTALL):
        if line := re.match(r', in (\w+)\n"(\w+)": "([\w.:]+)",\n', rest):
            monkeypatch.setitem(REGISTRIES[line[1]], line[2], line[3])
            registered.append(line[2])
        else:
            written = tmp_path / "page" / file
            written.parent.mkdir(parents=True, exist_ok=True)
            written.write_text(rest)
            package = import_module(".".join(Path(file).parent.parts))
            monkeypatch.setattr(package, "__path__", [*package.__path__, str(written.parent)])
    return registered


def test_every_example_is_a_file_and_one_registry_line(page):
    assert page == ["begins_with", "verification", "constant"]


def test_the_scorer_says_what_it_found(page):
    scorer = find_scorer("begins_with", "protocol.match")
    assert scorer("Yes, it is", Reference("yes")).value is True
    assert scorer("It is, yes", Reference("yes")).value is False
    assert scorer(" ", Reference("yes")).value is None


@pytest.mark.parametrize("answer", ["yes", "No."])
def test_task_backend_and_scorer_run_together(page, write_config, tmp_path, answer):
    names = tmp_path / "names.txt"
    names.write_text("tench\nwild dog\ncat\n")
    protocol = {"task": "verification", "classes": str(names), "match": "begins_with"}
    main(["--config", str(write_config(model=f"constant:{answer}", protocol=protocol))])
    folder = EvalDir(tmp_path / "answers")
    targets = [line.target for line in read_records(folder).predictions.values()]
    report = json.loads(folder.report("json").read_text())
    assert len(targets) == 15 and 0 < targets.count("yes") < 15
    assert report["accuracy"]["value"] == pytest.approx(targets.count(answer.lower().strip(".")) / 15)


def test_the_backend_refuses_a_task_without_text(page, write_config, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("tench\nwild dog\ncat\n")
    protocol = {"task": "class_likelihood", "classes": str(names)}
    with pytest.raises(SystemExit):
        main(["--config", str(write_config(model="constant:yes", protocol=protocol))])
    assert "returns text only" in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings", [{"task": "chess"}, {"match": "fuzzy"}, {"task": "multiple_choice", "choice_parser": "x"}]
)
def test_an_unknown_name_is_refused_with_the_known_ones(settings):
    with pytest.raises(ConfigError, match=r"choose one of: \w+, \w+"):
        make_task(ProtocolConfig(**settings))


def test_an_unknown_backend_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="known backends: api, open_clip"):
        backend_name("vllm:some-model")


@pytest.mark.parametrize("registry", [SCORERS, TASKS, BACKENDS])
def test_every_registered_name_leads_to_its_class_or_function(registry):
    for target in registry.values():
        module, _, name = target.partition(":")
        assert callable(getattr(import_module(module), name))
