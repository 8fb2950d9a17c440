"""Data of benchmarks: JPEGs as large as ImageNet's, conversations of LLaVA-1.5's lengths, mixtures of modelled lengths.

data = GeneratedData(LlavaFamily(model.config))                 # for a random model: nothing is read from disk
steps = data.jpeg_steps(micro_batch=16, workers=4)              # read, decoded and joined by training's loader
batches = data.mixture(budget=10_128, count=4)                  # packed rows of ImageNet and LLaVA-665K
"""

import io
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from configs.batch_plan import plan_batches
from configs.model import ChatConfig
from data_prep.prompts import classification_turns
from data_prep.sample import Sample
from train.benchmarks.order_plan import modelled_lengths, packed_order
from train.chat.render import ChatRenderer
from train.chat.templates import VICUNA_V1
from train.data.collate import Example, ExampleBuilder, collate, pack
from train.data.loader import read_steps
from train.data.order import Mixture
from train.data.packing import BatchPartitioner, StepOrder
from train.loss import local_denominator, set_loss_weights
from train.models.batch import Batch
from train.models.trainable import TrainableFamily
from train.toy.random_models import word_tokenizer

IMAGE_SIZE = (500, 375)  # pixels: ImageNet's median
CLASSES = 10
SYSTEM_PROMPT = f"{VICUNA_V1} Be brief."
QUESTION = "What type of object is in the middle of this very small photo?"
"""Texts of as many words as LLaMA's tokenizer makes tokens: 35 before the image, 17 between it and an answer of 5."""
JPEGS = 64


def class_of(number: int) -> str:
    """Class name of the image with this number: four words, and so five tokens with the end token."""
    return f"class {number % CLASSES} of ten"


def jpeg(number: int) -> bytes:
    """A JPEG of smooth noise, about 100 kB like ImageNet's."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(IMAGE_SIZE, Image.Resampling.BICUBIC)
    noisy = np.asarray(image, dtype=np.int16) + rng.integers(-12, 13, (IMAGE_SIZE[1], IMAGE_SIZE[0], 3))
    buffer = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def make_images(root: Path, count: int) -> None:
    """Write `count` JPEGs into class folders."""
    for number in range(count):
        folder = root / class_of(number)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:06d}.jpg").write_bytes(jpeg(number))


@dataclass(frozen=True)
class JpegExamples:
    """The dataset of training's loader, with JPEGs from memory in place of shards."""

    builder: ExampleBuilder
    jpegs: tuple[bytes, ...]
    sources: None = None  # the loader asks for them only to name a damaged sample

    def __len__(self) -> int:
        return len(self.jpegs)

    def __getitem__(self, position: int) -> Example:
        turns = classification_turns(QUESTION, class_of(position))
        return self.builder.build(Sample(id=str(position), image=self.jpegs[position], turns=turns), 0)


@dataclass(frozen=True)
class GeneratedData:
    """Batches for a random model of `family`, whose tokenizer knows no more than the benchmark's words."""

    family: TrainableFamily

    @cached_property
    def builder(self) -> ExampleBuilder:
        """What makes examples, as in training."""
        words = f"USER : ASSISTANT \n ? . , ' {SYSTEM_PROMPT} {QUESTION} class of ten".split(" ")
        renderer = ChatRenderer(word_tokenizer(words), system_prompt=SYSTEM_PROMPT)
        longest = min(2048, self.family.max_positions or 2048)
        return ExampleBuilder(renderer, self.family, self.family.image_processor(), ChatConfig(max_length=longest))

    @cached_property
    def jpegs(self) -> JpegExamples:
        """`JPEGS` examples, decoded at each access."""
        return JpegExamples(self.builder, tuple(map(jpeg, range(JPEGS))))

    @property
    def _length(self) -> int:
        """Tokens of an ImageNet example."""
        return len(self.jpegs[0].input_ids)

    def jpeg_steps(self, micro_batch: int, workers: int) -> Generator[Batch, None, None]:
        """One micro-batch a step without end, read ahead by `workers` processes."""
        size = max(1, JPEGS // micro_batch) * micro_batch
        mixture = Mixture(shards=((min(size, JPEGS),),), weights=(1.0,), block=JPEGS)
        partitioner = BatchPartitioner(plan_batches(micro_batch, 1, micro_batch, micro_batch), "padded")
        order = StepOrder(mixture, 0, max(1, JPEGS // micro_batch), partitioner)
        join = partial(collate, family=self.family, prefix=self.builder.prefix)
        for (batch,) in read_steps(order, cast(Any, self.jpegs), join, 0, 0, workers):
            yield weighted(batch)

    def jpeg_batch(self, micro_batch: int) -> Batch:
        """One padded micro-batch."""
        examples = [self.jpegs[number % JPEGS] for number in range(micro_batch)]
        return weighted(collate(examples, self.family, self.builder.prefix))

    def mixture(self, images: int, count: int) -> list[Batch]:
        """`count` packed rows of about as many tokens as `images` ImageNet examples have.

        Half of a conversation's text is supervised, and an ImageNet example's name. A small model has shorter images
        and texts.
        """
        modelled = modelled_lengths()
        room, longest = images * self._length, self.builder.chat.max_length
        chosen = iter(next(packed_order(modelled.lengths, 1, 4 * images * count).batches(0)))
        rows: list[Batch] = []
        for _ in range(count):
            row: list[Example] = []
            while True:
                position = next(chosen)
                size = int(modelled.lengths[position])
                row.append(self._conversation(position, size, longest, image=bool(modelled.with_image[position])))
                if sum(len(example.input_ids) for example in row) > room:
                    row.pop()
                    break
            rows.append(weighted(pack(row, self.family, self.builder.prefix)))
        return rows

    def _conversation(self, position: int, size: int, longest: int, *, image: bool) -> Example:
        """Of about `size` tokens, at most `longest`: system prompt, image, question and answer of drawn words."""
        prefix, own = list(self.builder.prefix), self.family.image_tokens() if image else 0
        text = size - (576 if image else 0) - len(prefix)
        text = max(2, min(text * longest // 2048, longest - own - len(prefix)))
        answer = 1 + position % 6 if position < 1_281_167 else text // 2
        rng = np.random.default_rng(position)
        words = rng.integers(5, self.family.text_config.vocab_size, text).tolist()
        ids = [*prefix, *[self.family.image_token_id] * own, *words]
        answer = min(answer, text - 1)
        supervised = [False] * (len(ids) - answer) + [True] * answer
        return Example(str(position), 0, ids, supervised, self.jpegs[position % JPEGS].image if image else None)


def weighted(batch: Batch) -> Batch:
    """`batch` with the weights of a step that has no other micro-batch."""
    set_loss_weights(batch, "token", local_denominator([batch], "token"), 1.0)
    return batch


def tokens_of(batches: Sequence[Batch]) -> int:
    """Tokens of all conversations, padding not counted."""
    return sum(int(batch.lengths().sum()) for batch in batches)
