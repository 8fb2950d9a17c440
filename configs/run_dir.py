"""The names of every file of a run. Nobody else builds these paths."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunDir:
    """A run's folder.

    runs/NAME/config.yaml            the resolved configuration
              identity.json          base model, data and W&B identity of the run
              metrics.jsonl          one line a step
              events.jsonl           one line a verdict of the monitor, a checkpoint, a resume
              checkpoints/step-00000500/
              export/                a folder plain transformers loads
              eval/EVALUATION/
    """

    root: Path

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
    def postmortem(self) -> Path:
        """Loss curve with events and the samples of flagged steps, as one HTML page."""
        return self.root / "postmortem.html"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.root / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        """The checkpoint written after optimizer step `step`."""
        return self.checkpoints / f"step-{step:08d}"

    @property
    def export(self) -> Path:
        """The exported model of the last step."""
        return self.root / "export"

    def export_of(self, step: int) -> Path:
        """The exported model of one checkpoint."""
        return self.root / f"export-step-{step:08d}"

    @property
    def requeue(self) -> Path:
        """Present if a signal stopped the run after saving; a job script that sees it may queue the job again."""
        return self.root / "requeue"

    def hang(self, rank: int) -> Path:
        """The stacks of a rank that hung; absent if it did not."""
        return self.root / f"hang-rank-{rank}.txt"

    @property
    def slurm(self) -> Path:
        """Job scripts, their configs and what the jobs print."""
        return self.root / "slurm"

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

    def evaluation(self, name: str) -> Path:
        """Folder of one evaluation's predictions and reports."""
        return self.root / "eval" / name


@dataclass(frozen=True)
class ShardDir:
    """The folder of one source's shards: tars, their sidecars, the manifest and the index."""

    root: Path

    @property
    def manifest(self) -> Path:
        """Counts, checksums, histogram and drops; written last, so its presence means the set is whole."""
        return self.root / "manifest.json"

    @property
    def index(self) -> Path:
        """Where each sample's members lie, as a NumPy array."""
        return self.root / "index.npy"

    def shard(self, number: int) -> Path:
        """Tar file `number`."""
        return self.root / f"{number:06d}.tar"

    def sidecar(self, number: int) -> Path:
        """What is known of shard `number`; written after it, so its presence means the shard is whole."""
        return self.root / f"{number:06d}.json"


@dataclass(frozen=True)
class EvalDir:
    """The folder of one evaluation of one model."""

    root: Path

    def predictions(self, worker: int) -> Path:
        """Answers of worker `worker`, one JSON line an item."""
        return self.root / f"predictions-{worker:05d}.jsonl"

    def all_predictions(self) -> list[Path]:
        """Every worker's file that exists."""
        return sorted(self.root.glob("predictions-*.jsonl"))

    @property
    def config(self) -> Path:
        """The evaluation's resolved configuration and identity."""
        return self.root / "evaluation.json"

    def refusal(self, worker: int) -> Path:
        """Why worker `worker` could not put its questions to the model, or not all of them; absent if it could."""
        return self.root / f"refused-{worker:05d}.txt"

    def refusals(self) -> dict[int, Path]:
        """Every worker's refusal that exists, by worker."""
        return {int(path.stem.rpartition("-")[2]): path for path in sorted(self.root.glob("refused-*.txt"))}

    def report(self, suffix: str) -> Path:
        """`report.json`, `report.md` or `report.html`."""
        return self.root / f"report.{suffix}"
