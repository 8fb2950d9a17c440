"""The items of a report one by one: picture, question, answer, right name, and why the answer was scored as it was.

Pictures and questions come from the shards; without them, or with shards of other data, the page says so.
"""

from collections.abc import Mapping, Sequence

from configs.errors import DataError, UserError
from configs.evaluation import EvalConfig
from data_prep.images import ImageError
from data_prep.lettered_options import LETTERS
from data_prep.page_gallery import Gallery, Tile
from data_prep.sample import Sample
from data_prep.shards import ShardSet
from data_prep.thumbnails import thumbnail
from eval.metrics.question_metrics import BY_IMAGE, GRADED
from eval.reports.candidate_set import candidates_of, scored_answer
from eval.reports.item_choice import MOST, ShownItem, chosen_items
from eval.runner.batching import open_source
from eval.runner.evaluation_record import Evaluation
from eval.runner.predictions import Records, hash_of
from eval.tasks.registry import make_task
from eval.types import LabelSetTask, Prediction, Score, Task

PICTURE_BYTES = 2_000_000  # of all pictures of a page; a data URI is a third longer
SHOWN_TEXT = 300  # characters of a question or an answer
SHOWN_CANDIDATES = 10
TONES = {"right": "good", "wrong": "bad", "failed": "bad", "no answer": ""}


def item_gallery(
    scored: Sequence[tuple[Prediction, Score]],
    records: Records,
    evaluation: Evaluation,
    config: EvalConfig,
    grades: Mapping[str, Sequence[tuple[str, str]]],
) -> Gallery | None:
    """At most `MOST` items with at most `PICTURE_BYTES` of pictures; None without an item.

    `grades` are those of `eval.reports.grades.item_grades`.
    """
    items = chosen_items(scored, records)
    if not items:
        return None
    samples, missing = _samples(items, evaluation, config)  # `missing`: why some or all have none
    task = make_task(config.protocol, evaluation.answer_delimiter)
    pictures = _pictures(items, samples)
    tiles = [
        Tile(pictures.get(item.id), item.id, lines, _tags(item), TONES[item.outcome])
        for item in items
        for lines in (_lines(item, samples.get(item.id), task, config, grades.get(item.id, ())),)
    ]
    return Gallery(tiles, _caption(len(items), len(scored) + len(records.failures), len(pictures), missing))


def _caption(shown: int, total: int, pictures: int, missing: str) -> str:
    text = "All items." if shown == total else f"{shown:,} of {total:,} items."
    if shown < total:
        text += (
            f" At most {MOST} are shown: wrong ones first, then those without an answer, failed and right ones; of "
            "each, one item of every class, then a second one, in an order drawn from the ids."
        )
    if pictures == shown:
        return text
    without = "None has a picture" if not pictures else f"{shown - pictures:,} of them have no picture"
    return f"{text} {without} here{f': {missing}' if missing else ''}."


def _samples(items: Sequence[ShownItem], evaluation: Evaluation, config: EvalConfig) -> tuple[dict[str, Sample], str]:
    """(item id to its sample, why some or all have none). Nothing is fetched: the answers may be far from the data."""
    try:
        shards = open_source(config)
    except UserError as error:
        return {}, str(error).rstrip(".")
    if shards.fingerprint != evaluation.settings["data"]:
        return {}, "the shards on this machine are not those that the questions were asked about"
    numbers = shards.numbers_by_hash()
    found, missing = {}, ""
    for item in items:
        number = numbers.get(hash_of(item.id))
        if number is not None and not shards.fetched(number):
            missing = "they are behind URLs, and not in data.cache_dir of this machine"
            continue
        sample = None if number is None else _sample(shards, number)
        if sample is not None and (sample.id == item.id or item.failure is not None):
            found[item.id] = sample
    return found, missing


def _sample(shards: ShardSet, number: int) -> Sample | None:
    """A sample that cannot be read has neither picture nor question here; its item is listed as failed."""
    try:
        return shards.sample(number)
    except (DataError, OSError):
        return None


def _pictures(items: Sequence[ShownItem], samples: dict[str, Sample]) -> dict[str, bytes]:
    """Item id to its thumbnail, up to `PICTURE_BYTES` in all."""
    found: dict[str, bytes] = {}
    left = PICTURE_BYTES
    for item in items:
        sample = samples.get(item.id)
        if sample is None or not isinstance(sample.image, bytes):
            continue
        try:
            small = thumbnail(sample.image)
        except ImageError:
            continue
        if len(small) <= left:
            found[item.id] = small
            left -= len(small)
    return found


def _tags(item: ShownItem) -> dict[str, str]:
    return {"outcome": item.outcome, "class": item.class_name}


def _lines(
    item: ShownItem, sample: Sample | None, task: Task, config: EvalConfig, grades: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    asked = _question(sample, item, task)
    lines = [("question", shortened(asked))] if asked else []
    if item.prediction is None or item.score is None:
        right = [("right name", sample.label_name)] if sample and sample.label_name else []
        return [*lines, *right, ("failed", item.failure.reason if item.failure else "")]
    prediction, name = item.prediction, item.class_name
    labels = task.labels_of(prediction) if isinstance(task, LabelSetTask) else (prediction.target,)
    target = ", ".join(_with_option(prediction, label) for label in labels)
    target += f" ({name})" if name and name not in labels else ""
    given = _with_option(prediction, scored_answer(config.protocol, prediction, item.score))
    candidates = candidates_of(config.protocol, prediction)
    answers = bool(prediction.choices) or config.protocol.task in (*BY_IMAGE, GRADED)
    by_rule = [] if config.protocol.task == GRADED else [(item.outcome, item.score.reason)]
    return [
        *lines,
        ("answer", shortened(given) or "(empty)"),
        ("right answer" if answers else "right names" if len(labels) > 1 else "right name", target),
        *(by_rule or ([] if grades else [("not graded", item.score.reason)])),
        *((name, shortened(words)) for name, words in grades),
        *([("candidates", listed(candidates))] if candidates else []),
    ]


def _with_option(prediction: Prediction, answer: str) -> str:
    """An answer that is a letter alone, with the text of its option."""
    number = LETTERS.find(answer) if len(answer) == 1 else -1
    return f"{answer}, {prediction.choices[number]}" if 0 <= number < len(prediction.choices) else answer


def _question(sample: Sample | None, item: ShownItem, task: Task) -> str:
    """The text of the question; empty where it is not known."""
    if sample is None:
        return ""
    record = item.prediction or item.failure
    try:
        return task.question(sample, record.item_index if record else None).text
    except UserError:
        return ""


def shortened(text: str, most: int = SHOWN_TEXT) -> str:
    """The text in one line, cut after `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}…"


def listed(candidates: Sequence[str]) -> str:
    """The first candidates, and how many more there are."""
    rest = len(candidates) - SHOWN_CANDIDATES
    return ", ".join(candidates[:SHOWN_CANDIDATES]) + (f" and {rest:,} more" if rest > 0 else "")
