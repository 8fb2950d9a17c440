"""A tiny random model and a small shard set that several tests of eval ask."""

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.load import load_config
from data_prep import build
from eval.models.generate import Prompt, TextPredictor
from eval.runner.batching import open_source
from eval.runner.evaluation_record import describe_evaluation, write_evaluation
from eval.runner.predictions import PredictionWriter
from eval.types import Answer, Failure
from tests.eval.stored_answers import stored_answer
from train.toy.random_models import write_random_base
from train.toy.tiny_families import BUILDERS, write_tiny_family

SENTENCES = (
    "What type of object is in this photo the Identify image A B C D answer Choose or , Let ' s think step by",
    "tench wild dog cat red moss bark ( )",
)
WORDS = [word for sentence in SENTENCES for word in sentence.split()]


def picture(seed: int = 0, size: tuple[int, int] = (40, 24)) -> bytes:
    """A JPEG of random blocks."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize(size, Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG")
    return buffer.getvalue()


@pytest.fixture(name="picture", scope="session")
def picture_fixture() -> Callable[..., bytes]:
    return picture


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny tensors: several threads would only wait for each other, most of all on a busy machine."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights."""
    return write_random_base(tmp_path_factory.mktemp("models") / "tiny", "tiny", WORDS)


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model folder with random weights of each family but LLaVA-1.5."""
    root = tmp_path_factory.mktemp("families")
    return {name: write_tiny_family(root / name, name, WORDS) for name in BUILDERS}


@pytest.fixture(scope="session")
def widened() -> Callable[[torch.nn.Module, float], torch.nn.Module]:
    """Gives a random model weights of so large a standard deviation that its answers differ much."""

    def widen(model: torch.nn.Module, deviation: float) -> torch.nn.Module:
        for weight in model.parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=deviation)
        return model.eval()

    return widen


@pytest.fixture
def unwritten_is_nan(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Memory that nobody has written holds NaN, in torch's new tensors and numpy's, so that reading it shows."""
    original = np.empty

    def empty(*arguments: Any, **settings: Any) -> Any:
        made = original(*arguments, **settings)
        if made.dtype.kind == "f":
            made.fill(np.nan)
        return made

    monkeypatch.setattr(np, "empty", empty)
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all(), "torch.utils.deterministic.fill_uninitialized_memory is off"
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions that reach the model, one after another."""
    asked: list[str] = []
    original = TextPredictor.predict

    def predict(self: TextPredictor, prompts: Sequence[Prompt]) -> list[Answer | Failure]:
        asked.extend(prompt.prompt_hash for prompt in prompts)
        return original(self, prompts)

    monkeypatch.setattr(TextPredictor, "predict", predict)
    return asked


CLASSES = ("tench", "wild_dog", "cat")
PER_CLASS = 5


@pytest.fixture(scope="session")
def data_section(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The section `data` of a config with built shards: `pets` (15 images, 3 classes) and `quiz` (8 questions)."""
    root = tmp_path_factory.mktemp("data")
    for label, name in enumerate(CLASSES):
        (root / "pets" / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            (root / "pets" / name / f"{number}.jpg").write_bytes(picture(10 * label + number))
    lines = []
    for number in range(8):
        text = "What is this object?\nA. red\nB. moss\nC. bark\nD. step\nChoose A, B, C, or D."
        image = f"pets/{CLASSES[number % 3]}/{number % PER_CLASS}.jpg"
        row = {"image": image, "text": text, "label": "ABCD"[number % 4], "wiki": "", "classname": CLASSES[number % 3]}
        lines.append(json.dumps(row))
    (root / "quiz.jsonl").write_text("\n".join(lines) + "\n")
    section = (
        "data:\n"
        f"  shards: {root / 'shards'}\n"
        "  samples_per_shard: 4\n"
        "  sources:\n"
        f"    pets: {{reader: image_folder, path: {root / 'pets'}}}\n"
        f"    quiz: {{reader: imagewikiqa, path: {root / 'quiz.jsonl'}}}\n"
    )
    config = root / "build.yaml"
    config.write_text(f"name: build\nmodel: {{base: none}}\ntrain: {{sources: [pets]}}\n{section}")
    build.main(["--config", str(config)])
    return section


@pytest.fixture
def write_config(tmp_path: Path, data_section: str, tiny_model: Path) -> Callable[..., Path]:
    """Writes an evaluation config about `pets`; keyword arguments are settings (`protocol` a dict)."""

    def write(**settings: object) -> Path:
        protocol = {"task": "open_world", "max_new_tokens": 6} | dict(settings.pop("protocol", {}))
        values = {
            "name": "pets",
            "model": str(tiny_model),
            "source": "pets",
            "dtype": "fp32",
            "batch_size": 4,
            "output": str(tmp_path / "answers"),
        } | settings
        lines = [f"{key}: {json.dumps(value)}" for key, value in (values | {"protocol": protocol}).items()]
        file = tmp_path / "evaluation.yaml"
        file.write_text("\n".join(lines) + "\n" + data_section)
        return file

    return write


@pytest.fixture
def store_answers(write_config: Callable[..., Path]) -> Callable[..., tuple[EvalDir, EvalConfig, Path]]:
    """Stores answers to `pets` without a model: class name to the answers about its images in their order.

    Returns their folder, the evaluation's config and its file; keyword arguments are settings.
    """

    def store(answers: Mapping[str, Sequence[str]], **settings: object) -> tuple[EvalDir, EvalConfig, Path]:
        file = write_config(**{"model": "llava-hf/llava-1.5-7b-hf"} | settings)
        config = load_config(EvalConfig, file)[0]
        shards = open_source(config)
        folder = EvalDir(Path(config.output or ""))
        rest = {name: list(texts) for name, texts in answers.items()}
        total = sum(map(len, rest.values()))
        identity = "a" * 64, shards.fingerprint, (total, total)
        write_evaluation(folder, replace(describe_evaluation(config, "model", *identity), answer_delimiter=""))
        with PredictionWriter(folder.predictions(0)) as writer:
            for sample in (shards.sample(number) for number in range(len(shards.index))):
                if not rest.get(sample.label_name or ""):
                    continue
                name = sample.label_name
                writer.write([stored_answer(sample.id, rest[name].pop(0), name, label=sample.label, seconds=0.1)])
        assert not any(rest.values()), "there are fewer images than answers"
        return folder, config, file

    return store
