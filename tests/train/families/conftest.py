"""Every family of `cases.py` with its tiny model, and shards of records with images of several shapes and without."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from configs.load import load_config
from configs.run import RunConfig
from data_prep import build
from data_prep.images import decode_rgb
from data_prep.sample import Sample, Turn
from tests.overrides import overrides_of
from tests.train.conftest import WORDS
from tests.train.families.cases import ALL, CASES, FamilyCase
from tests.train.families.processors import Exchanges
from tests.train.faults.conftest import RankForker, started_rank_forker
from train.models.loading import LoadedModel, load_model
from train.models.param_groups import choose_trainable
from train.models.pissa import principal_matrices, start_from
from train.plan import RunPlan, make_plan

QUESTIONS = ("What type of object is in this photo?", "Choose the object", "What is the photo?", "A or B?")
ANSWERS = ("red blue", "a b c d e f", "the object", "C", "blue photo of the red object")
SIZES = ((40, 24), (24, 70), (64, 64), (90, 30), (33, 31), (32, 32))  # width, height
RECORDS = 16
"""Every fourth is a text without an image."""

RUN = """
name: {name}
runs_dir: {root}/runs
seed: 3
data:
  shards: {root}/shards
  sources: {{mixed: {{reader: llava, path: {root}/mixed.json}}}}
model: {{base: {folder}, dtype: fp32, mode: projector, lora: {{rank: 4, alpha: 8, dropout: 0}}}}
chat: {{max_length: 256}}
optim: {{lr_projector: 1.0e-3, lr_language: 1.0e-3, lr_vision: 1.0e-3, warmup_ratio: 0}}
train: {{sources: [mixed], global_batch: 8, micro_batch: 2, max_steps: 6, epochs: 3, workers: 0}}
checkpoint: {{every: 3}}
"""


def picture(number: int) -> bytes:
    """A PNG of random blocks, whose shape depends on `number`."""
    blocks = np.random.default_rng(number).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    data = BytesIO()
    Image.fromarray(blocks).resize(SIZES[number % len(SIZES)], Image.Resampling.NEAREST).save(data, "PNG")
    return data.getvalue()


@dataclass(frozen=True)
class Item:
    """One conversation with or without an image, for our code and for transformers'."""

    exchanges: Exchanges
    image: bytes | None

    def sample(self, like: Sample) -> Sample:
        """The same as a record of a shard set."""
        turns = []
        for number, (question, answer) in enumerate(self.exchanges):
            shown = "<image>\n" if self.image is not None and not number else ""
            turns += [Turn("human", f"{shown}{question}"), Turn("gpt", str(answer))]
        return replace(like, turns=tuple(turns), image=self.image)


def items(case: FamilyCase) -> list[Item]:
    """Images of three shapes, a text without one, and, where the template allows it, several questions."""
    found = [Item([(QUESTIONS[n], ANSWERS[n])], picture(n)) for n in range(3)]
    found.append(Item([(QUESTIONS[3], ANSWERS[4])], None))
    if case.multi_turn:
        several = [(QUESTIONS[n], ANSWERS[n]) for n in (1, 3)]
        found += [Item(several, picture(4)), Item(several, None)]
    return found


@dataclass
class TrainedFamily:
    """A family with its folder; plans and models are made when they are asked for."""

    case: FamilyCase
    root: Path
    folder: Path
    plans: dict[tuple[str, ...], RunPlan] = field(default_factory=dict)

    def config_file(self, name: str, folder: Path | None = None) -> Path:
        """The YAML of a run called `name`, of the model in `folder`."""
        file = self.root / f"{name}.yaml"
        file.write_text(RUN.format(root=self.root, name=name, folder=folder or self.folder))
        return file

    def arguments(self, name: str, **settings: object) -> list[str]:
        """`--config` of the run `name` and a `--set` of each setting: `train__workers=1` for train.workers."""
        sets = [*self.case.settings, *overrides_of(settings)]
        return ["--config", str(self.config_file(name)), *(word for each in sets for word in ("--set", each))]

    def plan(self, *overrides: str) -> RunPlan:
        """The plan of a run on one rank with `overrides` (`key=value`)."""
        if overrides not in self.plans:
            file = self.config_file(f"plan_{self.case.name}")
            config, _ = load_config(RunConfig, file, [*self.case.settings, *overrides])
            self.plans[overrides] = make_plan(config, 1, "cpu")
        return self.plans[overrides]

    @cached_property
    def processor(self) -> Any:
        """transformers' own."""
        return self.case.processor(self.folder)

    def examples(self, chosen: Sequence[Item]) -> list[Any]:
        """Our examples of these conversations."""
        plan = self.plan()
        like = plan.sources.sample(0)
        return [plan.example_builder.build(item.sample(like), 0) for item in chosen]

    def inputs(self, item: Item, upto: int | None = None, *, answered: bool = True) -> dict[str, torch.Tensor]:
        """What transformers makes of the first `upto` exchanges, the last of them answered or open."""
        exchanges = list(item.exchanges[:upto])
        opened = [*exchanges[:-1], (exchanges[-1][0], None)]
        image = None if item.image is None else decode_rgb(item.image)
        text, question = (
            self.case.text(self.processor, part, image is not None)
            for part in (exchanges if answered else opened, opened)
        )
        return self.case.inputs(self.processor, text, image, question)

    def expected(self, item: Item) -> tuple[list[int], list[bool]]:
        """Token ids by transformers' processor, and which are targets: what each answer adds to its open question."""
        ids = self.inputs(item)["input_ids"][0].tolist()
        targets = [False] * len(ids)
        for upto in range(1, len(item.exchanges) + 1):
            opened = self.inputs(item, upto, answered=False)["input_ids"][0].tolist()
            through = self.inputs(item, upto)["input_ids"][0].tolist()
            assert ids[: len(through)] == through
            assert ids[: len(opened)] == opened
            end = len(through) - self.case.behind_end
            targets[len(opened) : end] = [True] * (end - len(opened))
        return ids, targets

    def ours(self, plan: RunPlan) -> LoadedModel:
        """Our model, frozen as the mode says; LoRA's second matrix is not zero, so that both get a gradient."""
        loaded = load_model(str(self.folder), None, "fp32", "sdpa")
        torch.manual_seed(0)
        choose_trainable(loaded.model, plan.family, plan.config.model, plan.config.optim)
        if plan.config.model.lora.variant == "pissa":
            start_from(loaded.model, principal_matrices(loaded.model, plan.config.model.lora), plan.config.model.lora)
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        return loaded

    def theirs(self, plan: RunPlan, ours: Any) -> Any:
        """transformers' model with the same weights and adapters."""
        model = AutoModelForImageTextToText.from_pretrained(self.folder, dtype=torch.float32)
        choose_trainable(model, plan.family, plan.config.model, plan.config.optim)
        model.load_state_dict(ours.state_dict())
        return model.eval()


def joined(rows: Sequence[dict[str, torch.Tensor]], targets: Sequence[Sequence[bool]]) -> dict[str, torch.Tensor]:
    """Inputs of several conversations as one batch padded on the right, with `labels`."""
    ids = [row["input_ids"][0] for row in rows]
    labels = [torch.where(torch.tensor(on), own, -100) for own, on in zip(ids, targets, strict=True)]
    pad = torch.nn.utils.rnn.pad_sequence
    batch = {
        "input_ids": pad(ids, batch_first=True),
        "attention_mask": pad([torch.ones_like(own) for own in ids], batch_first=True),
        "labels": pad(labels, batch_first=True, padding_value=-100),
    }
    for name in dict.fromkeys(name for row in rows for name in row if name not in batch):
        tensors = [row[name] for row in rows if name in row]
        width = max(tensor.shape[1] if tensor.dim() > 1 else 0 for tensor in tensors)
        if width:  # tiles, tokens of a question or of the row
            tensors = [torch.cat([t, t.new_zeros(len(t), width - t.shape[1], *t.shape[2:])], 1) for t in tensors]
        batch[name] = torch.cat(tensors)
    return batch


@pytest.fixture(scope="session")
def family_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the records, built into shards."""
    root = tmp_path_factory.mktemp("families")
    records = []
    for number in range(RECORDS):
        question, answer = QUESTIONS[number % len(QUESTIONS)], ANSWERS[number % len(ANSWERS)]
        record = {"id": f"{number}", "conversations": [{"from": "human", "value": question}]}
        if number % 4 != 3:
            (root / f"{number}.png").write_bytes(picture(number))
            record |= {
                "image": f"{number}.png",
                "conversations": [{"from": "human", "value": f"<image>\n{question}"}],
            }
        record["conversations"] += [{"from": "gpt", "value": answer}]
        records.append(record)
    (root / "mixed.json").write_text(json.dumps(records))
    (root / "build.yaml").write_text(RUN.format(root=root, name="build", folder="none"))
    build.main(["--config", str(root / "build.yaml")])
    return root


@pytest.fixture(scope="session")
def family_of_case(family_root: Path) -> Callable[[str], TrainedFamily]:
    """A family by the name of its case; its model is written once."""
    made: dict[str, TrainedFamily] = {}

    def get(name: str) -> TrainedFamily:
        if name not in made:
            folder = family_root / "models" / name
            ALL[name].write(folder, words=WORDS)
            made[name] = TrainedFamily(ALL[name], family_root, folder)
        return made[name]

    return get


@pytest.fixture(scope="session", params=CASES)
def trained(request: pytest.FixtureRequest, family_of_case: Callable[[str], TrainedFamily]) -> TrainedFamily:
    """Each family in turn."""
    return family_of_case(request.param)


@pytest.fixture(scope="session")
def forker(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[RankForker]:
    """A process that has imported everything and forks ranks; each run names its family."""
    yield from started_rank_forker(None, tmp_path_factory, free_port)
