"""The Python interface, for notebooks: ask a model about an image, score class names, read runs and reports.

    import vlm_classify

    model = vlm_classify.load_model("runs/imagenet_llava_mix")
    model.ask("cat.jpg", "What is in this photo?")
    model.class_scores("cat.jpg", ["tabby cat", "tiger", "lynx"])
    vlm_classify.metrics("runs/imagenet_llava_mix")[-1]["loss"]
    vlm_classify.report_frame("runs/imagenet_llava_mix/eval/imagenet_open_world/export")

torch is imported by `load_model` only, pandas by the functions whose name ends in `_frame` only.
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.data import APPLY, IGNORE
from configs.errors import ConfigError, RunError
from configs.eval_dir import EvalDir, ResultsDir
from configs.protocol import ProtocolConfig
from configs.question import TRAINED
from configs.run_dir import RunDir
from configs.trained import training_record_of_model
from data_prep.images import read_image_file
from data_prep.orientation import UprightImage
from data_prep.prompts import classification_prompt, image_question
from data_prep.run_index import read_result
from data_prep.sample import Turn

if TYPE_CHECKING:
    import pandas
    from PIL.Image import Image

    from eval.models.class_likelihood.scorer import ClassScorer
    from eval.models.generate import TextPredictor
    from train.models.loading import LoadedModel

__all__ = ["Model", "load_model", "metrics", "metrics_frame", "report", "report_frame", "results_frame"]
PNG_MODES = ("RGB", "RGBA", "L", "LA", "P", "1")


def load_model(
    model: str | Path,
    *,
    checkpoint: str = "export",
    device: str | None = None,
    dtype: str | None = None,
    system_prompt: str = TRAINED,
    exif: str = TRAINED,
) -> "Model":
    """Load a vision-language model: a run, a checkpoint, an export, a model folder or a hub id.

    `checkpoint` is `export`, `last` or a step number, of a run. `device` is a torch device; by default the GPU, if
    there is one. `dtype` is `bf16`, `fp16` or `fp32`; by default bf16 on a GPU, fp32 on a CPU. `system_prompt` is
    `trained` (as the model was trained), `family` (the model family's own), `vicuna_v1`, `none`, or the text itself.
    `exif` says whether photographs are turned as their EXIF orientation says: `ignore`, `apply`, or `trained`, the
    `data.exif` of the training.

    Raises `ConfigError` for a model that does not exist or is not supported, `RunError` for a run without weights.

    >>> model = load_model("train/assets/tiny_llava")
    """
    import torch

    from eval.models.class_likelihood.tree_forward import scoring_attention
    from train.exported_model import model_folders
    from train.models import loading

    if checkpoint == "all":
        raise ConfigError("checkpoint is all; load one model at a time: export, last or a step number")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or ("bf16" if device.startswith("cuda") else "fp32")
    if dtype not in loading.DTYPES:
        raise ConfigError(f"dtype is {dtype!r}; choose one of: {', '.join(loading.DTYPES)}")
    if exif not in (TRAINED, IGNORE, APPLY):
        raise ConfigError(f"exif is {exif!r}; choose one of: {TRAINED}, {IGNORE}, {APPLY}")
    ((_, folder),) = model_folders(str(model), checkpoint)
    trained = training_record_of_model(str(folder))
    if exif == TRAINED:
        exif = trained.data.exif if trained else IGNORE
    attention = scoring_attention("auto", device.partition(":")[0], dtype)
    return Model(loading.load_model(str(folder), None, dtype, attention, device), system_prompt, upright=exif == APPLY)


class Model:
    """A loaded model. An image is a path, the bytes of an image file, or a `PIL.Image.Image`."""

    def __init__(self, loaded: "LoadedModel", system_prompt: str = TRAINED, *, upright: bool = False):
        """Keep the loaded model; `load_model` is the usual way to make one."""
        self._upright = upright
        self._loaded = loaded
        self._system_prompt = system_prompt
        self._predictors: dict[ProtocolConfig, TextPredictor] = {}
        self._scorers: dict[ProtocolConfig, ClassScorer] = {}

    def _bytes_of(self, image: "str | Path | bytes | Image | None") -> bytes | None:
        data = _image_bytes(image)
        return UprightImage(data) if data is not None and self._upright else data

    def __repr__(self) -> str:
        """The family and the folder."""
        return f"<{self._loaded.family.name} from {self._loaded.folder}>"

    def ask(
        self,
        image: "str | Path | bytes | Image | None",
        question: str | None = None,
        *,
        answer_prefix: str = "",
        max_new_tokens: int = 64,
    ) -> str:
        """The greedy answer to a question about an image, or to a question alone if `image` is None.

        `question` defaults to the paper's: "What type of object is in this photo?" `answer_prefix` is the beginning of
        the answer, which the model continues.

        Raises `DataError` for an image that does not decode or a question that is too long, `RunError` if the
        model's output is not finite.

        >>> model.ask("cat.jpg", "What colour is it?")
        'orange'
        """
        from eval.types import Failure

        predictor = self._predictor(self._protocol(answer_prefix, max_new_tokens))
        prompt = predictor.prompt(_turns(question, with_image=image is not None), self._bytes_of(image))
        (answer,) = predictor.predict([prompt])
        if isinstance(answer, Failure):
            raise RunError(f"the model gave no answer: {answer.reason}")
        return answer.text

    def class_scores(
        self,
        image: "str | Path | bytes | Image",
        class_names: Sequence[str],
        question: str | None = None,
        *,
        answer_prefix: str = "",
        rule: str = "sum",
    ) -> dict[str, float]:
        """The log-probability of every class name as the answer, the most likely first.

        All names are scored exactly, in one forward pass over their prefix tree. `rule` is `sum` or `mean`, over a
        name's tokens. `question` and `answer_prefix` are those of `ask`.

        Raises `ConfigError` for an empty list or a name that occurs twice.

        >>> model.class_scores("cat.jpg", ["tabby cat", "tiger"])
        {'tabby cat': -1.25, 'tiger': -4.5}
        """
        from eval.class_scores.rules import Rule, class_scores

        names = tuple(class_names)
        if isinstance(class_names, str) or not names or len(set(names)) < len(names):
            raise ConfigError(f"class_names is {class_names!r}; give a list of different names")
        if rule not in ("sum", "mean"):
            raise ConfigError(f"rule is {rule!r}; choose sum or mean")
        scorer = self._scorer(self._protocol(answer_prefix, 1))
        turns = _turns(question, with_image=True)
        trie = scorer.trie(turns, names)
        log_probs = scorer.log_probs([scorer.predictor.prompt(turns, self._bytes_of(image))], trie)[0]
        scores = dict(zip(names, map(float, class_scores(trie, Rule(rule), log_probs)), strict=True))
        return dict(sorted(scores.items(), key=lambda item: -item[1]))

    def classify(
        self, image: "str | Path | bytes | Image", class_names: Sequence[str], question: str | None = None
    ) -> str:
        """The class name with the highest log-probability: the first of `class_scores`.

        >>> model.classify("cat.jpg", ["tabby cat", "tiger"])
        'tabby cat'
        """
        return next(iter(self.class_scores(image, class_names, question)))

    def _protocol(self, answer_prefix: str, max_new_tokens: int) -> ProtocolConfig:
        return ProtocolConfig(
            answer_prefix=answer_prefix, max_new_tokens=max_new_tokens, system_prompt=self._system_prompt
        )

    def _predictor(self, protocol: ProtocolConfig) -> "TextPredictor":
        from eval.models.generate import TextPredictor

        if protocol not in self._predictors:
            self._predictors[protocol] = TextPredictor(self._loaded, protocol)
        return self._predictors[protocol]

    def _scorer(self, protocol: ProtocolConfig) -> "ClassScorer":
        from eval.models.class_likelihood.scorer import ClassScorer

        if protocol not in self._scorers:
            self._scorers[protocol] = ClassScorer(self._predictor(protocol))
        return self._scorers[protocol]


def metrics(run: str | Path) -> list[dict[str, Any]]:
    """The metrics of a run, one dictionary per optimizer step. Raises `RunError` if the run has none.

    >>> [step["loss"] for step in metrics("runs/demo_mix")]
    """
    file = RunDir(Path(run)).metrics
    if not file.is_file():
        raise RunError(f"{run} has no {file.name}; give the folder of a run, such as runs/demo_mix")
    lines = file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]  # a kill may have cut the last line


def metrics_frame(run: str | Path) -> "pandas.DataFrame":
    """`metrics` as a DataFrame: one row per step, nested values in dotted columns such as `lr.projector`.

    >>> metrics_frame("runs/demo_mix").plot(x="step", y="loss")
    """
    return _pandas().json_normalize(metrics(run))


def report(folder: str | Path) -> dict[str, Any]:
    """The content of an evaluation's report.json; accuracies are fractions.

    Raises `RunError` if there is none, if it is damaged, or if it is the report of a comparison of evaluations.

    >>> report("runs/demo_mix/eval/demo_open_world/export")["accuracy"]["value"]
    """
    file = EvalDir(Path(folder)).report("json")
    if not file.is_file():
        raise RunError(f"{folder} has no {file.name}; give an evaluation's folder, such as runs/NAME/eval/NAME/export")
    content = read_result(file)
    if "accuracy" not in content:  # a comparison of several evaluations has another structure
        raise RunError(f"{file} is no report of one evaluation; give a folder such as runs/NAME/eval/NAME/export")
    return content


def report_frame(folder: str | Path) -> "pandas.DataFrame":
    """The classes of one report: a row each with label, name, correct, wrong, no_answer, n, accuracy and frequency.

    `frequency` is missing unless the evaluation counted how often training texts mention the class.

    >>> report_frame("runs/demo_mix/eval/demo_open_world/export").sort_values("accuracy").head()
    """
    frame = _pandas().DataFrame(report(folder)["classes"])
    if len(frame):
        frame["n"] = frame[["correct", "wrong", "no_answer"]].sum(axis=1)
        frame["accuracy"] = frame["correct"] / frame["n"]
    return frame


def results_frame(*folders: str | Path) -> "pandas.DataFrame":
    """One row for each evaluation below `folders`: evaluation, model, label, accuracy, low, high, n, no_answer, path.

    `low` and `high` bound the 95 % interval of the accuracy. Reports of comparisons have no row: they repeat the
    numbers of evaluations. Raises `RunError` for a folder that does not exist or a damaged report.

    >>> results_frame("runs/demo_mix", "runs/demo_base").pivot_table("accuracy", "model", "evaluation")
    """
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise RunError(f"no folder {folder}; give runs, or folders of evaluations")
    name = EvalDir(Path()).report("json").name
    found = {file for folder in folders for file in ResultsDir(Path(folder)).results() if file.name == name}
    contents = [(file.parent, read_result(file)) for file in sorted(found)]
    return _pandas().DataFrame([_row(folder, content) for folder, content in contents if "accuracy" in content])


def _row(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    accuracy = {key: content["accuracy"][key] for key in ("low", "high", "n")}
    return {
        "evaluation": content["name"],
        "model": content["model"],
        "label": content["label"],
        "accuracy": content["accuracy"]["value"],
        **accuracy,
        "no_answer": content["no_answer"]["value"],
        "path": str(folder),
    }


def _turns(question: str | None, *, with_image: bool) -> tuple[Turn, ...]:
    text = classification_prompt("paper") if question is None else question
    return (Turn("human", image_question(text) if with_image else text),)


def _image_bytes(image: "str | Path | bytes | Image | None") -> bytes | None:
    if image is None or isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        return read_image_file(Path(image).expanduser())
    buffer = io.BytesIO()
    (image if image.mode in PNG_MODES else image.convert("RGB")).save(buffer, format="PNG")
    return buffer.getvalue()


def _pandas() -> Any:
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ConfigError("pandas is not installed; run: pip install 'vlm-classify[pandas]'") from error
    return pandas
