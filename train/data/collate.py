"""Shards to micro-batches: render, decode, expand the image, pad on the right.

    positions ──ExampleSet──▶ Example (ids, targets, image) ──collate──▶ Batch

`ExampleSet[position]` is a pure function of the shards and the chat settings, so worker processes change nothing but
speed. Shapes are those of `train.models.batch`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import torch

from configs.errors import DataError
from configs.model import ChatConfig
from data_prep.images import decode_rgb, image_size
from data_prep.sample import Sample, UnreadableSample
from train.chat.conversation import IGNORE_INDEX, IMAGE_INDEX, TokenizedConversation, expand_image
from train.chat.prefix import constant_prefix, shared_length
from train.chat.probe_position import insert_probe
from train.chat.renderer import Renderer
from train.data.class_weights import Weights
from train.data.order import PADDING
from train.data.probe_classes import ProbeClasses
from train.data.questions import reworded
from train.data.sources import PositionSet, SourceSet
from train.models.batch import Batch
from train.models.images import NO_IMAGES, ImageInput, ImageProcessor, Size
from train.models.trainable import TrainableFamily
from train.models.types import Family


class NoTargetTokensError(DataError):
    """A training sample in which no token is supervised: it would teach nothing."""


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation ready for the model. A padding example has one token, no source (-1) and nothing supervised.

    `unreadable` is the sample that could not be read, in a padding example that takes its place.
    """

    id: str
    source: int
    input_ids: list[int]
    supervised: list[bool]
    image: ImageInput | None
    unreadable: UnreadableSample | None = None
    weight: float | None = None
    """The weight of its loss, where samples are weighed by class."""
    probe: int | None = None
    """Index of the token of a linear probe, and the class that the probe learns, -1 for none."""
    probe_class: int = -1


@dataclass(frozen=True)
class ExampleBuilder:
    """Turns a sample into an example for one model: ids and targets by `renderer`, its image by `image_processor`."""

    renderer: Renderer
    family: TrainableFamily
    image_processor: ImageProcessor
    chat: ChatConfig
    probe: bool = False
    """Whether each conversation about an image with a class gets the token of a linear probe."""

    def build(self, sample: Sample, source: int) -> Example:
        """Raises `DataError` (or `NoTargetTokensError`) that names the sample if it cannot be trained on."""
        expanded = self.tokens(sample, has_image=sample.image is not None)
        try:
            image = None if sample.image is None else self._image(sample)
        except DataError as error:
            raise type(error)(f"sample {sample.id}: {error}") from error
        return Example(sample.id, source, expanded.input_ids, expanded.supervised, image, probe=expanded.probe)

    def _image(self, sample: Sample) -> ImageInput:
        return self.image_processor(decode_rgb(_image_bytes(sample)), self._question(sample))

    def _question(self, sample: Sample) -> str:
        """The first question, for a family whose image features depend on it."""
        if not self.family.reads_question:
            return ""
        return self.renderer.question_text([turn for turn in sample.turns if turn.speaker == "human"][:1])

    @property
    def needs_image_size(self) -> bool:
        """Whether the number of tokens depends on the image's size, so that counting them reads the image's header."""
        return self.family.fixed_image_tokens is None

    def image_ids(self, sample: Sample) -> Sequence[int]:
        """The ids that the sample's image becomes, which is read only if `needs_image_size`."""
        return self.family.image_ids(_size(sample) if self.needs_image_size else None)

    def tokens(self, sample: Sample, *, has_image: bool) -> TokenizedConversation:
        """The ids of a sample, its image expanded but not decoded. Raises as `build` does."""
        try:
            rendered = self.renderer.render(sample.turns, self.chat.max_length)
            if rendered.images != has_image:
                raise DataError(f"{rendered.images} <image> placeholders, {int(has_image)} images")
            expanded = self.expand(rendered, self.image_ids(sample) if has_image else ())
            expanded = self.with_probe(sample, expanded)
            if has_image:
                self.family.check_question(self._question(sample))
            if self.chat.no_target_tokens == "error" and not any(expanded.supervised[1:]):
                if all(turn.speaker == "human" for turn in sample.turns):
                    raise NoTargetTokensError(
                        "the conversation has no answer; add one, or set chat.no_target_tokens: drop"
                    )
                raise NoTargetTokensError(
                    f"no token is supervised within chat.max_length {self.chat.max_length}; "
                    "raise it, or set chat.no_target_tokens: drop"
                )
        except DataError as error:
            raise type(error)(f"sample {sample.id}: {error}") from error
        return expanded

    def expand(self, rendered: TokenizedConversation, image_ids: Sequence[int]) -> TokenizedConversation:
        """`rendered` with `image_ids` in place of the image, cut at `chat.max_length`."""
        remedy = "raise it, or lower chat.max_pixels" if self.family.any_resolution else "raise it"
        return expand_image(rendered, image_ids, self.chat.max_length, remedy)

    def with_probe(self, sample: Sample, conversation: TokenizedConversation) -> TokenizedConversation:
        """`conversation` with the token of a linear probe, if there is one and the sample has an image and a class.

        The image is expanded or not. Behind an earlier answer, which may name the class, there is none. Raises
        `DataError` if chat.max_length has no room for the token.
        """
        own = IMAGE_INDEX if conversation.images else self.family.image_token_id
        if not self.probe or sample.label is None or sample.label < 0 or own not in conversation.input_ids:
            return conversation
        if any(conversation.supervised[: conversation.input_ids.index(own)]):
            return conversation
        return insert_probe(conversation, own, self.renderer.eos, self.chat.max_length)

    @cached_property
    def prefix(self) -> tuple[int, ...]:
        """The ids that begin every conversation."""
        return constant_prefix(self.renderer)

    def padding(self, unreadable: UnreadableSample | None = None) -> Example:
        """An example whose loss has weight 0."""
        return Example("", -1, [self.renderer.eos], [False], None, unreadable)


def _image_bytes(sample: Sample) -> bytes:
    assert isinstance(sample.image, bytes), "samples read from shards carry their image as bytes"
    return sample.image


def _size(sample: Sample) -> Size:
    width, height = image_size(_image_bytes(sample))
    return height, width


class ExampleSet(PositionSet[Example]):
    """Random access to encoded examples by position."""

    def __init__(
        self,
        sources: SourceSet,
        builder: ExampleBuilder,
        unreadable: str = "stop",
        question: str | None = None,
        *,
        weights: Weights | None = None,
        probe_classes: ProbeClasses | None = None,
    ):
        """`unreadable` is `train.unreadable`; `question` replaces any other classification question.

        `weights` (N,) are the weights of the positions' losses; None: all are 1. Without `probe_classes`, a linear
        probe learns nothing of these examples.
        """
        super().__init__(sources)
        self.example_builder = builder
        self.unreadable = unreadable
        self.question = question
        self.weights = weights
        self.probe_classes = probe_classes

    def __getitem__(self, position: int) -> Example:
        """The example at `position`, or one of weight 0 for `PADDING`.

        Raises `DataError` that names a sample whose bytes or image have become bad since the build, unless they are to
        be skipped.
        """
        if self.weights is not None:
            weight = 1.0 if position == PADDING else float(self.weights[position])
            return replace(self._example(position), weight=weight)
        return self._example(position)

    def _example(self, position: int) -> Example:
        if position == PADDING:
            return self.example_builder.padding()
        source, index = self.sources.locate(position)
        try:
            sample = self.sources.sample(position)
            example = self.example_builder.build(reworded(sample, self.question) if self.question else sample, source)
        except (DataError, OSError) as error:
            where = "" if isinstance(error, DataError) else f"{self.sources.sets[source].where(index)}: "
            reason = f"{where}{error}"
            if self.unreadable == "stop":
                raise DataError(f"{reason}; repair it, or skip it with train.unreadable: skip") from error
            return self.example_builder.padding(
                UnreadableSample(self.sources.names[source], self._id(position), reason)
            )
        if self.probe_classes is None or example.probe is None:
            return example
        return replace(example, probe_class=self.probe_classes.number(source, sample.label))

    def _id(self, position: int) -> str:
        """The sample's id; its number in the source where the record itself is damaged."""
        try:
            return self.sources.record(position).id
        except (DataError, OSError):
            return f"number {self.sources.locate(position)[1]}"


def collate(examples: Sequence[Example], family: Family, prefix: Sequence[int] = ()) -> Batch:
    """Pad examples on the right to the longest. Weights are 0 until `train.loss.set_loss_weights` sets them.

    `prefix` is `ExampleBuilder.prefix`, of which the batch says how much all examples share.
    """
    width = max(len(example.input_ids) for example in examples)
    batch = _blank(examples, family, (len(examples), width))
    _note_savings(batch, examples, family, prefix)
    for row, example in enumerate(examples):
        _write(batch, row, 0, row, example)
    _mark_probes(batch, examples, [(row, 0) for row in range(len(examples))])
    batch.positions = family.positions(batch.input_ids, batch.sequence_ids, batch.images)
    return batch


def pack(examples: Sequence[Example], family: Family, prefix: Sequence[int] = ()) -> Batch:
    """Lay examples end to end in one row; nothing is padded. `prefix` as for `collate`."""
    batch = _blank(examples, family, (1, sum(len(example.input_ids) for example in examples)))
    batch.packed = True
    _note_savings(batch, examples, family, prefix)
    starts = list(accumulate((len(example.input_ids) for example in examples), initial=0))
    for number, (example, start) in enumerate(zip(examples, starts, strict=False)):
        _write(batch, 0, start, number, example)
    _mark_probes(batch, examples, [(0, start) for start in starts[:-1]])
    batch.positions = family.positions(batch.input_ids, batch.sequence_ids, batch.images)
    return batch


def _note_savings(batch: Batch, examples: Sequence[Example], family: Family, prefix: Sequence[int]) -> None:
    """Say which tokens of the batch need not run (`train.models.target_states`)."""
    batch.process_last_token = any(example.input_ids[-1] == family.image_token_id for example in examples)
    if prefix:
        batch.shared_prefix = shared_length([(example.input_ids, example.supervised) for example in examples], prefix)


def _write(batch: Batch, row: int, start: int, number: int, example: Example) -> None:
    """Put example `number` of the batch into its row, from token `start` on."""
    ids = torch.tensor(example.input_ids)
    span = slice(start, start + len(ids))
    batch.input_ids[row, span] = ids
    batch.attention_mask[row, span] = 1
    batch.sequence_ids[row, span] = number
    batch.labels[row, span] = torch.where(torch.tensor(example.supervised), ids, torch.tensor(IGNORE_INDEX))
    batch.labels[row, start] = IGNORE_INDEX  # nothing predicts the first token


def _mark_probes(batch: Batch, examples: Sequence[Example], starts: Sequence[tuple[int, int]]) -> None:
    """Say where the tokens of a linear probe are, and their classes; `starts`: row and column of each example."""
    if all(example.probe is None for example in examples):
        return
    batch.probe_tokens = torch.zeros_like(batch.input_ids, dtype=torch.bool)
    batch.probe_classes = torch.tensor([example.probe_class for example in examples])
    for example, (row, start) in zip(examples, starts, strict=True):
        if example.probe is not None:
            batch.probe_tokens[row, start + example.probe] = True


def _blank(examples: Sequence[Example], family: Family, shape: tuple[int, int]) -> Batch:
    """A batch of these examples' images, sources and ids without any token."""
    images = [example.image for example in examples if example.image is not None]
    return Batch(
        input_ids=torch.zeros(shape, dtype=torch.long),
        attention_mask=torch.zeros(shape, dtype=torch.long),
        labels=torch.full(shape, IGNORE_INDEX),
        weights=torch.zeros(shape),
        sequence_ids=torch.full(shape, -1),
        images=family.batch_images(images) if images else NO_IMAGES,
        sources=torch.tensor([example.source for example in examples]),
        ids=tuple(example.id for example in examples),
        unreadable=tuple(example.unreadable for example in examples if example.unreadable is not None),
        sample_weights=_sample_weights(examples),
    )


def _sample_weights(examples: Sequence[Example]) -> torch.Tensor | None:
    """(C,) the weights of the examples' losses; None where they have none."""
    weights = [example.weight for example in examples if example.weight is not None]
    return torch.tensor(weights, dtype=torch.float64) if weights else None
