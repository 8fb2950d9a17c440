"""The names of all files and folders of models and runs. No other module spells them."""

from dataclasses import dataclass
from pathlib import Path

MODEL_CONFIG = "config.json"  # of a model folder, as transformers writes it
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "vocab.txt")
"""Files of a model's folder of which its tokenizer needs one."""


def step_name(step: int) -> str:
    """The name of the checkpoint written after optimizer step `step`, as a folder and as a label.

    >>> step_name(500)
    'step-00000500'
    """
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """Inverse of `step_name`; None for any other name.

    >>> step_of("step-00000500"), step_of("export")
    (500, None)
    """
    digits = name.removeprefix("step-")
    return int(digits) if digits.isdecimal() and step_name(int(digits)) == name else None


@dataclass(frozen=True)
class RunDir:
    """A run's folder.

    runs/NAME/config.yaml            the resolved configuration
              identity.json          base model, data and W&B identity of the run
              metrics.jsonl          one line per optimizer step
              events.jsonl           one line per alert, checkpoint, resume ...
              provenance.json        command, code, packages and machines of every start
              checkpoints/step-00000500/
              pissa.safetensors      how LoRA began, for model.lora.variant pissa
              export/                a model folder that transformers loads
              eval/EVALUATION/LABEL/
    """

    root: Path

    @classmethod
    def below(cls, folder: Path) -> list["RunDir"]:
        """Every run below `folder` that has metrics, sorted by path."""
        return sorted((cls(file.parent) for file in folder.rglob(cls(folder).metrics.name)), key=lambda run: run.root)

    @property
    def config(self) -> Path:
        """The resolved configuration, as YAML."""
        return self.root / "config.yaml"

    @property
    def identity(self) -> Path:
        """What the run belongs to: base model, data, W&B run."""
        return self.root / "identity.json"

    @property
    def metrics(self) -> Path:
        """One JSON line per optimizer step."""
        return self.root / "metrics.jsonl"

    @property
    def events(self) -> Path:
        """One JSON line per event."""
        return self.root / "events.jsonl"

    @property
    def provenance(self) -> Path:
        """Every start of the training: command, commit, package versions, machines, times."""
        return self.root / "provenance.json"

    @property
    def postmortem(self) -> Path:
        """Loss curve with events and the samples of flagged steps, as one HTML page."""
        return self.root / "postmortem.html"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.root / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        """The checkpoint written after optimizer step `step`."""
        return self.checkpoints / step_name(step)

    def steps(self) -> list[int]:
        """Steps that have a checkpoint folder, complete or not, oldest first."""
        names = (folder.name for folder in self.checkpoints.iterdir()) if self.checkpoints.is_dir() else ()
        return sorted(step for name in names if (step := step_of(name)) is not None)

    @property
    def export(self) -> Path:
        """The exported model: of the last or the best step (`checkpoint.keep`)."""
        return self.root / "export"

    def export_of(self, step: int) -> Path:
        """The exported model of one checkpoint."""
        return self.root / f"export-{step_name(step)}"

    def exported_steps(self) -> list[Path]:
        """The exported models of checkpoints, by step (`export_of`)."""
        return sorted(self.root.glob(f"export-{step_name(0).rstrip('0')}*"))

    @property
    def requeue(self) -> Path:
        """Present if a signal stopped the run after it saved; a job script that finds it may requeue the job."""
        return self.root / "requeue"

    def hang(self, rank: int) -> Path:
        """Stack traces of a rank that hung; absent if it did not."""
        return self.root / f"hang-rank-{rank}.txt"

    @property
    def slurm(self) -> Path:
        """Job scripts, their configs and the jobs' output: a `SlurmDir`."""
        return self.root / "slurm"

    @property
    def pissa(self) -> Path:
        """The matrices with which the run's LoRA began, for variant `pissa`."""
        return self.root / "pissa.safetensors"

    @property
    def lock(self) -> Path:
        """Held by the process that writes the run."""
        return self.root / ".lock"

    @property
    def export_lock(self) -> Path:
        """Held by the process that exports, so that evaluation workers do not export the same checkpoint twice."""
        return self.root / ".export.lock"

    @property
    def wandb(self) -> Path:
        """Files of Weights & Biases."""
        return self.root / "wandb"

    @property
    def wandb_lock(self) -> Path:
        """Held by the evaluation that writes the run in Weights & Biases."""
        return self.root / ".wandb.lock"

    @property
    def tensorboard(self) -> Path:
        """Event files of TensorBoard."""
        return self.root / "tensorboard"

    @property
    def evaluations(self) -> Path:
        """Folder of the evaluations."""
        return self.root / "eval"

    def evaluation(self, name: str) -> Path:
        """Folder of one evaluation's predictions and reports."""
        return self.evaluations / name

    def evaluated_steps(self, name: str) -> list[int]:
        """Steps whose checkpoint has a folder in evaluation `name`, oldest first."""
        folder = self.evaluation(name)
        names = (entry.name for entry in folder.iterdir()) if folder.is_dir() else ()
        return sorted(step for name in names if (step := step_of(name)) is not None)


def run_of(model: str) -> RunDir | None:
    """The run that `model` is, or lies in as an export or a checkpoint; None for any other model."""
    path = Path(model)
    candidates = (path, path.parent, path.parent.parent) if path.is_dir() else ()
    return next((RunDir(folder) for folder in candidates if RunDir(folder).config.is_file()), None)


@dataclass(frozen=True)
class CheckpointDir:
    """One checkpoint: `RunDir.checkpoint(step)`."""

    root: Path

    @property
    def weights(self) -> Path:
        """Trainable weights, fp32."""
        return self.root / "weights.safetensors"

    @property
    def optimizer(self) -> Path:
        """AdamW's two moments."""
        return self.root / "optimizer.safetensors"

    @property
    def state(self) -> Path:
        """Data order, monitor, identities, result-changing settings."""
        return self.root / "state.json"

    @property
    def manifest(self) -> Path:
        """sha256 of each file and of itself; written last, so its presence means the checkpoint is complete."""
        return self.root / "manifest.json"


@dataclass(frozen=True)
class ExportDir:
    """An exported model: a model folder of transformers, and a record of the run that it comes from."""

    root: Path

    @property
    def record(self) -> Path:
        """Run, step, base model and what an evaluation takes from the training (`configs.trained`)."""
        return self.root / "export.json"

    @property
    def class_names(self) -> Path:
        """The classes that the model was trained on, as a JSON list of names; absent if it had none."""
        return self.root / "class_names.json"

    @property
    def probe_weights(self) -> Path:
        """Token and head of the linear probe that was trained with the model (`loss.probe`); absent without one."""
        return self.root / "linear_probe.safetensors"

    @property
    def probe(self) -> Path:
        """Classes and token position of that probe."""
        return self.root / "linear_probe.json"

    @property
    def provenance(self) -> Path:
        """The export's own start, with those of the training in it."""
        return self.root / "provenance.json"

    @property
    def adapter(self) -> Path:
        """The unmerged LoRA as a peft adapter."""
        return self.root / "adapter"

    @property
    def adapter_weights(self) -> Path:
        """The adapter's weights, under peft's name."""
        return self.adapter / "adapter_model.safetensors"


@dataclass(frozen=True)
class SweepDir:
    """What belongs to a sweep and to none of its runs, in a folder next to them."""

    root: Path

    def table(self, suffix: str) -> Path:
        """`sweep.json` or `sweep.html`: a row for each setting, with mean and interval over its seeds."""
        return self.root / f"sweep.{suffix}"

    @property
    def lock(self) -> Path:
        """Held by the process that runs the sweep."""
        return self.root / ".lock"

    def run_list(self, key: str) -> Path:
        """The folders of the runs of one submission, a line for each array task."""
        return RunDir(self.root).slurm / f"runs-{key}.txt"


@dataclass(frozen=True)
class SlurmDir:
    """Job scripts, their configs, and the jobs' output: `RunDir.slurm`."""

    root: Path

    def script(self, kind: str) -> Path:
        """The copied job script `data_prep`, `finetune` or `evaluate`."""
        return self.root / f"{kind}.sbatch"

    @property
    def setup(self) -> Path:
        """`slurm.setup`, sourced by every script."""
        return self.root / "setup.sh"

    def config(self, name: str) -> Path:
        """The resolved config of the run (`run`) or of an evaluation (`eval.NAME`)."""
        return self.root / f"{name}.yaml"

    def log(self, stage: str, *, array: bool) -> Path:
        """Output of a job, as a pattern for sbatch: %j and %A_%a are SLURM's job and array ids."""
        return self.root / f"{stage}-{'%A_%a' if array else '%j'}.out"

    @property
    def jobs(self) -> Path:
        """The submitted jobs: id, name and sbatch command of each."""
        return self.root / "jobs.json"
