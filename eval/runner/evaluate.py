"""Runs a model on all items of an evaluation: items to batches to stored predictions.

    for every batch of this worker's items:   read and prepare (in a thread, one batch ahead) -> answer -> append

Workers share nothing but the folder; a batch whose items all have answers, in any worker's file, is skipped. One
that has some is answered whole again and only the rest is kept, so that a batch's composition, and with it every last
bit of the sums, is that of an uninterrupted run.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from configs.errors import DataError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.run_dir import ExportDir
from data_prep.provenance import StartLog, read_starts
from data_prep.sample import Sample
from data_prep.shard_index import id_hash
from data_prep.shards import ShardSet
from eval.runner.batching import Share, batches_of, depends_on_batch, items_of, open_source
from eval.runner.class_check import check_classes
from eval.runner.evaluation_record import describe_evaluation, with_batch_settings, write_evaluation
from eval.runner.model_files import with_model_files
from eval.runner.predictions import PredictionWriter, Records, read_records, unreadable_id
from eval.runner.progress import EvalProgress
from eval.tasks.class_likelihood import ClassLikelihood
from eval.tasks.registry import make_task
from eval.types import (
    Answer,
    EvalModel,
    FailedItem,
    Failure,
    ItemIndex,
    LabelSetTask,
    Prediction,
    Predictor,
    Question,
    StreamingPredictor,
    Task,
)

Record = Prediction | FailedItem


@dataclass(frozen=True, slots=True)
class Ready:
    """An item with its rendered prompt."""

    sample: Sample
    question: Question
    prompt: Any
    item_index: ItemIndex | None = None


class PromptBuilder:
    """The items of one source under one protocol, made ready for one model."""

    def __init__(self, shards: ShardSet, task: Task, predictor: Predictor, *, keep_index: bool = False):
        """The builder of prompts for `predictor` from the items of `shards`.

        `keep_index` stores every item's index in its source, as protocol.item_draw stream needs it.
        """
        self.shards, self.task, self.predictor, self.keep_index = shards, task, predictor, keep_index

    def prepare(self, item: int) -> Ready | FailedItem:
        """Read, prompt and render item number `item`; a `FailedItem` if its data have any error."""
        name, index = unreadable_id(int(self.shards.index["id_hash"][item])), ItemIndex(item, len(self.shards))
        kept = index if self.keep_index else None
        try:
            sample = self.shards.sample(item)
            name = sample.id
            question = self.task.question(sample, index)
            image = sample.image if isinstance(sample.image, bytes) else None
            prompt = self.predictor.prompt(question.turns, image)
            return Ready(sample, question, prompt, kept or question.item_index)
        except DataError as error:
            return FailedItem(name, str(error), kept)


def run_evaluation(
    config: EvalConfig, model: EvalModel, named: tuple[str, Path], folder: EvalDir, share: Share
) -> None:
    """Run the model on the share's items that have no answer in `folder`; `named` is its (label, folder).

    Raises `RunError` if the folder belongs to another evaluation, `DataError` as `check_classes`.
    """
    shards = open_source(config)
    check_classes(config, shards)
    hashes = shards.index["id_hash"]
    items = items_of(config, shards)
    counts = (len(items), len(shards))
    label, model_folder = named
    evaluation = describe_evaluation(config, label, model.identity, shards.fingerprint, counts)
    evaluation = with_model_files(evaluation, model_folder)
    if depends_on_batch(config.protocol, model.pads_right):
        evaluation = with_batch_settings(evaluation, config)
    write_evaluation(folder, replace(evaluation, answer_delimiter=model.answer_delimiter))
    task, by_stream = make_task(config.protocol, model.answer_delimiter), config.protocol.item_draw == "stream"
    builder = PromptBuilder(shards, task, model.predictor(config, folder), keep_index=by_stream)
    batches = batches_of(items, share, config.batch_size)
    scored = task.begin(folder) if isinstance(task, ClassLikelihood) else True
    known = read_records(folder)
    done = {id_hash(key) for key in known.predictions}
    unanswered = sum(int(hashes[item]) not in done for batch in batches for item in batch)
    with (
        _recorded_start(folder, share, model_folder, shards.fingerprint) if unanswered else nullcontext(),
        PredictionWriter(folder.predictions(share.worker)) as writer,
        EvalProgress(f"{config.name} {label}", sum(map(len, batches)), share.worker) as progress,
    ):
        if isinstance(builder.predictor, StreamingPredictor):
            builder.predictor.begin(unanswered)
        for before in _own_predictions(known, shards, batches):
            progress.add(task.score(before).points_if_answered, old=True, counted=scored and has_label(task, before))
        for pending, ready, failures in _prepared_batches(builder, batches, done):
            for records in chain([failures], _answered(builder.predictor, ready, pending)):
                writer.write(record for record in records if known.failures.get(record.id) != record)
                for record in records:
                    if isinstance(record, Prediction):
                        progress.add(task.score(record).points_if_answered, counted=scored and has_label(task, record))
                progress.add_failures([record for record in records if isinstance(record, FailedItem)])


def has_label(task: Task, prediction: Prediction) -> bool:
    """Whether the item counts: protocol.labels may have no label of it."""
    return not isinstance(task, LabelSetTask) or bool(task.labels_of(prediction))


def _recorded_start(folder: EvalDir, share: Share, model: Path, data: str) -> AbstractContextManager[None]:
    """A start in the worker's provenance file, with the starts of the export and the training behind `model`."""
    exported = read_starts(ExportDir(model).provenance)
    return StartLog(folder.provenance(share.worker)).recorded(workers=share.workers, data=data, exports=exported)


def _own_predictions(known: Records, shards: ShardSet, batches: Sequence[Sequence[int]]) -> Iterator[Prediction]:
    """Answers that this worker's items already have."""
    own = {int(shards.index["id_hash"][item]) for item in chain.from_iterable(batches)}
    return (prediction for key, prediction in known.predictions.items() if id_hash(key) in own)


def _prepared_batches(
    builder: PromptBuilder, batches: Sequence[Sequence[int]], done: set[int]
) -> Iterator[tuple[set[str], list[Ready], list[FailedItem]]]:
    """(ids without an answer, questions of the batch, failures) of every unfinished batch.

    One thread reads and decodes the next batch while the model answers the current one.
    """
    hashes = builder.shards.index["id_hash"]
    waiting = [batch for batch in batches if any(int(hashes[item]) not in done for item in batch)]

    def prepare(batch: Sequence[int]) -> tuple[set[str], list[Ready], list[FailedItem]]:
        prepared = {item: builder.prepare(item) for item in batch if int(hashes[item]) not in done}
        pending = {made.sample.id for made in prepared.values() if isinstance(made, Ready)}
        if pending:  # otherwise the batch is complete and its items need not be read
            prepared |= {item: builder.prepare(item) for item in batch if item not in prepared}
        made_in_order = [prepared[item] for item in batch if item in prepared]
        ready = [made for made in made_in_order if isinstance(made, Ready)] if pending else []
        return pending, ready, [made for made in made_in_order if isinstance(made, FailedItem)]

    with ThreadPoolExecutor(max_workers=1) as thread:
        ahead: Future[tuple[set[str], list[Ready], list[FailedItem]]] | None = None
        for batch in waiting:
            current, ahead = ahead, thread.submit(prepare, batch)
            if current is not None:
                yield current.result()
        if ahead is not None:
            yield ahead.result()


def _answered(predictor: Predictor, ready: Sequence[Ready], pending: set[str]) -> Iterator[Sequence[Record]]:
    """Answers to the `pending` of `ready`. Batched predictors run all of `ready`; streaming ones only the pending."""
    if isinstance(predictor, StreamingPredictor):
        wanted = [made for made in ready if made.sample.id in pending]
        for number, answer in predictor.stream([made.prompt for made in wanted]):
            made = wanted[number]
            yield [_record(made, answer)]
    elif ready:
        answers = predictor.predict([made.prompt for made in ready])
        pairs = zip(ready, answers, strict=True)
        yield [_record(made, answer) for made, answer in pairs if made.sample.id in pending]


def _record(made: Ready, answer: Answer | Failure) -> Record:
    if isinstance(answer, Failure):
        return FailedItem(made.sample.id, answer.reason, made.item_index)
    return Prediction(
        id=made.sample.id,
        prompt_hash=made.prompt.prompt_hash,
        target=made.question.target,
        label=made.sample.label,
        label_name=made.sample.label_name,
        choices=made.question.choices,
        answer=answer.text,
        num_tokens=len(answer.token_ids),
        stopped=answer.stopped,
        seconds=round(answer.seconds, 4),
        scores=answer.scores,
        probabilities=answer.probabilities,
        item_index=made.item_index,
        prefix=answer.prefix,
        references=made.question.references,
        group=made.question.group,
    )
