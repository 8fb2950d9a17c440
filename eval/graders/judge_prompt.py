"""The question to a model that grades answers: a YAML file with its words, their source, and how to ask once more.

prompt: text with {question}, {target}, {answer}, and {names} if it wants the accepted names
again: a line added where the first reply cannot be read
source: where the words are from
"""

import re
from dataclasses import dataclass
from pathlib import Path

from configs.errors import ConfigError
from configs.layers import read_yaml
from eval.graders.types import StoredAnswer

PROMPTS = Path(__file__).with_name("prompts")
NEEDED = ("{target}", "{answer}")
FIELD = re.compile(r"\{(question|target|answer|names)\}")


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """The words of a question to the judge; `again` is added where its first reply cannot be read."""

    prompt: str
    again: str
    source: str

    def question(self, stored: StoredAnswer, **changes: str) -> str:
        """The question about one answer; `changes` are other texts for its fields."""
        names = [name for name in stored.reference.names if name != stored.reference.target]
        values = {
            "question": stored.question,
            "target": stored.reference.target,
            "answer": stored.text,
            "names": ", ".join(names) or "none given",
        } | changes
        return FIELD.sub(lambda field: values[field[1]], self.prompt).rstrip("\n")


def read_prompt(name: str, file: str | None = None) -> JudgePrompt:
    """The shipped prompt `name`, or that of the YAML `file`. Raises `ConfigError` if it lacks a part."""
    path = PROMPTS / f"{name}.yaml" if file is None else Path(file).expanduser()
    values = read_yaml(path)
    found = {key: values.get(key) for key in ("prompt", "again", "source")}
    if missing := [key for key, value in found.items() if not isinstance(value, str) or not value.strip()]:
        raise ConfigError(f"{path} has no text `{missing[0]}`; see {PROMPTS / name}.yaml")
    prompt = str(found["prompt"])
    if absent := [field for field in NEEDED if field not in prompt]:
        raise ConfigError(f"the prompt of {path} has no {absent[0]}; the judge would not see it")
    return JudgePrompt(prompt, str(found["again"]), str(found["source"]))
