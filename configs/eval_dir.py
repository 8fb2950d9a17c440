"""The names of all files and folders of evaluations and reproductions. No other module spells them."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EvalDir:
    """The folder of one evaluation of one model."""

    root: Path

    def predictions(self, worker: int) -> Path:
        """Answers of worker `worker`, one JSON line per item."""
        return self.root / f"predictions-{worker:05d}.jsonl"

    def all_predictions(self) -> list[Path]:
        """Every worker's file that exists."""
        return sorted(self.root.glob("predictions-*.jsonl"))

    @property
    def config(self) -> Path:
        """The evaluation's resolved configuration and identity."""
        return self.root / "evaluation.json"

    def provenance(self, worker: int) -> Path:
        """Every start of worker `worker`: command, commit, package versions, machine, times."""
        return self.root / f"provenance-{worker:05d}.json"

    def all_provenance(self) -> list[Path]:
        """Every worker's file that exists."""
        return sorted(self.root.glob("provenance-*.json"))

    def refusal(self, worker: int) -> Path:
        """Why worker `worker` could not evaluate its items, or not all of them; absent if it could."""
        return self.root / f"refused-{worker:05d}.txt"

    def refusals(self) -> dict[int, Path]:
        """Every worker's refusal that exists, by worker."""
        return {int(path.stem.rpartition("-")[2]): path for path in sorted(self.root.glob("refused-*.txt"))}

    def report(self, suffix: str) -> Path:
        """`report.json`, `report.md` or `report.html`."""
        return self.root / f"report.{suffix}"

    def grades(self, name: str) -> Path:
        """Grades of the stored answers by the grader `name`, one JSON line per answer."""
        return self.root / f"grades-{name}.jsonl"

    def grading(self, name: str) -> Path:
        """Identity of the grader `name`: its settings and its rule in words."""
        return self.root / f"grades-{name}.json"

    def replies(self, name: str) -> Path:
        """Replies of the model that the grader `name` asks, one JSON line per question."""
        return self.root / f"replies-{name}.jsonl"

    def graders(self) -> list[str]:
        """The names of all graders that have graded the answers, sorted."""
        return sorted(path.stem.removeprefix("grades-") for path in self.root.glob("grades-*.json"))

    @property
    def class_scores(self) -> Path:
        """Class names, token counts and prior of a class-scoring evaluation; the scores are in the predictions."""
        return self.root / "classes.json"

    @property
    def features(self) -> Path:
        """Token positions and size of the hidden states stored for linear probes."""
        return self.root / "features.json"

    def hidden_states(self, key: str) -> Path:
        """Hidden states that one process stored, fp16; `key` is random."""
        return self.root / f"states-{key}.f16"

    @property
    def probe(self) -> Path:
        """Results of the linear probes."""
        return self.root / "probe.json"

    def knn(self, suffix: str) -> Path:
        """`knn.json` or `knn.html`: accuracies of nearest neighbours among the stored hidden states."""
        return self.root / f"knn.{suffix}"

    @property
    def guidance(self) -> Path:
        """Results of a sweep over classifier-free guidance."""
        return self.root / "guidance.json"

    def result_files(self) -> tuple[Path, ...]:
        """The JSON files that hold results."""
        return (self.report("json"), self.probe, self.guidance)


@dataclass(frozen=True)
class ResultsDir:
    """A folder above evaluations: what combines several of them."""

    root: Path

    def summary(self, suffix: str) -> Path:
        """`summary.json` or `summary.md`: all checkpoints of one evaluation in one table."""
        return self.root / f"summary.{suffix}"

    def accuracy(self, suffix: str) -> Path:
        """`accuracy.json` or `accuracy.html`: one evaluation's accuracy over the steps of a training."""
        return self.root / f"accuracy.{suffix}"

    @property
    def followed(self) -> Path:
        """What `launch.follow` remembers: the evaluated checkpoints, and the exports that it made."""
        return self.root / "follow.json"

    def scoreboard(self, suffix: str) -> Path:
        """`scoreboard.json`, `scoreboard.md` or `scoreboard.html`: our numbers next to the paper's."""
        return self.root / f"scoreboard.{suffix}"

    def forgetting(self, name: str, suffix: str) -> Path:
        """`forgetting-NAME.json`, .md or .html: a fine-tuned model and its base on general abilities."""
        return self.root / f"forgetting-{name}.{suffix}"

    def agreement(self, suffix: str) -> Path:
        """`agreement.json`, `agreement.md` or `agreement.html`: graders compared with a person's labels."""
        return self.root / f"agreement.{suffix}"

    @property
    def judge_replies(self) -> Path:
        """Replies of the judge about labelled answers, one JSON line per question."""
        return self.root / "replies-llm_judge.jsonl"

    def robustness(self, suffix: str) -> Path:
        """`robustness.json`, `.md` or `.html`: variants of one evaluation, in the folder of the variants."""
        return self.root / f"robustness.{suffix}"

    def reproduction(self, name: str) -> Path:
        """The planned rows of one `eval.reproduce` and the evaluation of each; `name` has protocol and model."""
        return self.root / f"reproduction-{name}.json"

    def reproductions(self) -> list[Path]:
        """Every reproduction's record in the folders below this one, sorted."""
        return sorted(self.root.rglob("reproduction-*.json"))

    def results(self) -> list[Path]:
        """Every file with results of an evaluation in the folders below this one, sorted."""
        names = [file.name for file in EvalDir(self.root).result_files()]
        return sorted(file for name in names for file in self.root.rglob(name))
