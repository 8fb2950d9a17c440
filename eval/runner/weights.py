"""Whether stored answers are those of the weights and settings that are in the model's folder now; loads no torch."""

from dataclasses import replace
from pathlib import Path

from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.run_dir import run_of
from eval.runner.evaluation_record import check_answers, read_evaluation
from eval.runner.model_files import with_model_files
from eval.runner.output_paths import NO_RUN
from train.models.fingerprint import model_identity


def check_weights(config: EvalConfig, folder: EvalDir) -> None:
    """Raise `RunError` if the answers in `folder` are those of other weights or files than the model's folder holds.

    The answers of a model whose folder is gone are not checked; they can still be reported.
    """
    present, run = read_evaluation(folder), run_of(config.model)
    if present is None:
        return
    exports = {NO_RUN: folder.root.name, "export": "export"}
    model = Path(config.model) if run is None else run.root / exports.get(present.label, f"export-{present.label}")
    if any(model.glob("*.safetensors")):
        current = {**present.generation_settings, "model": model_identity(model)}
        check_answers(folder, with_model_files(replace(present, generation_settings=current), model))
