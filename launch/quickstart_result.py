"""What a quickstart says at its end: left-out photographs, what to try where the result is poor, and one photograph."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from configs.eval_dir import EvalDir
from configs.run import RunConfig
from configs.run_dir import RunDir
from data_prep.prompts import classification_prompt
from data_prep.run_index import read_result
from data_prep.spelling import changed_names
from launch.photo_survey import Survey

SHOWN = 3  # names in a message


def result_lines(seen: Survey, config: RunConfig, evaluation: EvalDir, shards: Path, run: RunDir) -> Iterator[str]:
    """The last lines: what was left out, the accuracy next to the most frequent class, a command for one photograph.

    Raises `RunError` for a damaged report.
    """
    for number, line in enumerate(seen.left_out_lines()):
        yield line if number else f"\nLeft out: {line}"
    yield from _advice(seen, config, evaluation)
    yield f"\nOne photograph, with the classes of this training, in {Path.cwd()}:"
    command = ["python", "-m", "eval.class_scoring", "--model", str(run.root), "--image", str(seen.example)]
    prompt = classification_prompt(config.data.prompt)
    yield shlex.join([*command, "--prompt", prompt, "--classes", str(shards / "train")])


def unwritable(seen: Survey, config: RunConfig) -> str:
    """Which class names the base's tokenizer cannot write, so that no answer is right; empty if there is none."""
    changed = changed_names(Path(config.model.base), seen.classes)
    if not changed:
        return ""
    examples = ", ".join(f"{name} becomes {written}" for name, written in list(changed.items())[:SHOWN])
    return (
        f"the base cannot write {len(changed):,} of {len(seen.classes):,} folder names ({examples}); no answer about "
        "them is right: rename these folders, with English words of letters a to z, or take --base llava-1.5-7b"
    )


def _names(seen: Survey, config: RunConfig) -> str:
    short = "folder names that are short and say what is seen: they are the answers, word by word"
    return f"other folder names: {text}" if (text := unwritable(seen, config)) else short


def _advice(seen: Survey, config: RunConfig, evaluation: EvalDir) -> Iterator[str]:
    """Accuracy and the share of the most frequent class; what to try if the first is not above the second."""
    file = evaluation.report("json")
    accuracy = read_result(file).get("accuracy", {}).get("value") if file.is_file() else None
    counts = seen.parts["test"].counts
    if accuracy is None or not counts:
        return
    name = max(counts, key=lambda each: counts[each])
    share = counts[name] / seen.count("test")
    yield f"\nAccuracy {accuracy:.1%} of {seen.count('test'):,} test photographs; always answering {name}: {share:.1%}"
    if accuracy > share:
        return
    fewest = min(filter(None, seen.parts["train"].counts.values()))
    yield "That is not above the most frequent class. What to try, with --name NAME for a training next to this one:"
    yield f"  more photographs: the smallest class has {fewest} for the training; 50 or more a class are a good start"
    yield f"  {_names(seen, config)}"
    if seen.warnings():
        yield "  what the plan warned of, such as one photograph in two classes"
    yield f"  more epochs, with a look at the accuracy of both trainings: --set train.epochs={3 * config.train.epochs}"
    yield "  a larger base, on a machine with a GPU: --base llava-1.5-7b"
