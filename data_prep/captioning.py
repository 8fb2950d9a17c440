"""Asks for the captions of a source (`data_prep.caption`): two rounds of questions, then the file of captions.

The reply to an image's first question has the image's id in the file of replies, that to its second `ID#2`.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from configs.captions import CLASS_NAME, CaptionConfig
from configs.data import APPLY
from configs.errors import DataError, RunError
from configs.words import counted
from data_prep import atomic
from data_prep.api.messages import ImagePart, Message
from data_prep.api.question_file import AskedModel, Question, Replies, ask_questions, read_replies
from data_prep.api.reply import Reply
from data_prep.caption_check import CAPTION, FAULTS, kind_of_reply, plain_caption
from data_prep.caption_file import CaptionPaths, write_captions
from data_prep.drops import check_drop_fraction, describe_drops
from data_prep.images import ImageError
from data_prep.line_file import complete_lines
from data_prep.orientation import UprightImage
from data_prep.progress import print_above_bar
from data_prep.registry import open_source
from data_prep.sample import Drop, Sample
from data_prep.shard_index import id_hash
from data_prep.validate import read_image

SECOND = "#2"
NO_REPLY = "no reply"
UNREADABLE = "image cannot be read"
SHOWN = 3


@dataclass(frozen=True, slots=True)
class CaptionSummary:
    """Counts of images: all `images` = `captions` + those in `left_out`, by the reason; `not_asked` in a dry run.

    `first_replies` counts the first replies by what they are, `asked_again` the second questions.
    """

    source: str
    model: str
    output: str
    images: int
    captions: int
    first_replies: Mapping[str, int]
    asked_again: int
    left_out: Mapping[str, int]
    not_asked: int = 0
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def words(self) -> str:
        """The counts in a few lines."""
        lines = [
            f"{self.output}: {counted(self.captions, 'caption')} of {counted(self.images, 'image')} of {self.source}"
        ]
        if self.asked_again:
            counts = self.first_replies.items()
            faults = ", ".join(f"{count:,} x {kind}" for kind, count in counts if kind in FAULTS)
            lines.append(f"asked again: {self.asked_again:,} ({faults})")
        for kind, count in self.left_out.items():
            more = ", ..." if count > SHOWN else ""
            lines.append(f"left out: {count:,} x {kind} ({', '.join(self.examples[kind])}{more})")
        if self.left_out.get(NO_REPLY):
            lines.append("the same command asks again for those without a reply")
        if self.not_asked:
            lines.append(f"not asked: {counted(self.not_asked, 'image')}")
        return "\n".join(lines)


def caption_source(config: CaptionConfig, *, limit: int | None = None, dry_run: bool = False) -> CaptionSummary:
    """Ask for the caption of each image, and write those that name the class; a dry run sends and writes nothing.

    Raises `DataError` for a source without classes or with too many dropped records, and as
    `data_prep.api.question_file.ask_questions`; `RunError` if no image has a caption.
    """
    paths = CaptionPaths(Path(config.output).expanduser())
    samples = chosen_samples(config, limit)
    model = AskedModel(config.model.removeprefix("api:"), config.api, config.max_tokens)
    if not dry_run:
        _check_output(paths, config.source, len(samples))
    parts, unreadable = _image_parts(samples, config)
    shown = [sample for sample in samples if sample.id in parts]
    first = [_question(sample, config.prompt, parts[sample.id]) for sample in shown]
    again = partial(_second_question, config, {sample.id: sample for sample in shown})
    found = ask_questions(paths.replies, first, model, name="captions", again=again, dry_run=dry_run)
    if dry_run and first:
        print_above_bar(f"captions: the first question: {first[0].messages[0].text}")
    answered = [question for question in first if question.id in found.replies]
    second = [one for q in answered if (one := again(q, found.replies[q.id])) is not None]
    later = _asked_again(paths.replies, second, model, dry_run=dry_run)
    summary, captions = _outcome(config, samples, unreadable, found, later)
    if dry_run:
        return summary
    if not captions:
        raise RunError(
            f"no image of {config.source} has a caption, so {paths.captions} is not written; {paths.replies} has the "
            f"replies ({', '.join(summary.left_out)})"
        )
    write_captions(paths, captions)
    record = {**summary.as_dict(), "prompt": config.prompt, "second_prompt": config.second_prompt}
    atomic.write_json(paths.summary, record)
    return summary


def chosen_samples(config: CaptionConfig, limit: int | None) -> list[Sample]:
    """The images that get captions, in the source's order; `limit` takes those with the smallest hashes of their ids.

    Raises `DataError` if the source has no classes, no images, or more dropped records than a build accepts.
    """
    source = open_source(config.data, config.source)
    if not source.class_names:
        raise DataError(f"source {config.source} has no classes, so a caption cannot name one; give a source of images "
                        "with class names")  # fmt: skip
    samples: list[Sample] = []
    drops: list[Drop] = []
    for record in source.records:
        if isinstance(record, Drop):
            drops.append(record)
        elif record.image is not None and record.label_name:
            samples.append(record)
        else:
            drops.append(Drop(record.id, "no image or no class"))
    if drops:
        print_above_bar(f"captions: {len(drops):,} records of {config.source} are left out: "
                        f"{'; '.join(describe_drops(drops))}")  # fmt: skip
    check_drop_fraction(
        config.source, drops, len(samples) + len(drops), config.data.max_drop_fraction, kept="nothing was sent"
    )
    if not samples:
        raise DataError(f"source {config.source} has no image with a class; is data.sources.{config.source}.path the "
                        "right folder or file?")  # fmt: skip
    if limit is None:
        return samples
    kept = {sample.id for sample in sorted(samples, key=lambda sample: id_hash(sample.id))[:limit]}
    return [sample for sample in samples if sample.id in kept]


def _check_output(paths: CaptionPaths, source: str, images: int) -> None:
    """Raise `RunError` where writing the captions would lose others."""
    if not paths.captions.exists():
        return
    if not paths.summary.exists():
        raise RunError(f"{paths.captions} exists and was not written by this program; set output to another file")
    if (earlier := _source_of(paths.summary)) != source:
        raise RunError(
            f"{paths.captions} has the captions of source {earlier}, not {source}; set output to another file"
        )
    lines = sum(1 for _ in complete_lines(paths.captions))
    if lines > images:
        raise RunError(f"{paths.captions} has {lines:,} captions and would have at most {images:,}; leave out --limit, "
                       "or set output to another file")  # fmt: skip


def _source_of(summary: Path) -> str:
    """Raises `RunError` for a summary that cannot be read."""
    try:
        return str(json.loads(summary.read_text(encoding="utf-8"))["source"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{summary} is damaged ({error}); set output to another file") from error


def _image_parts(samples: Sequence[Sample], config: CaptionConfig) -> tuple[dict[str, ImagePart], dict[str, str]]:
    """By id, the images and why others cannot be read. Raises `DataError` if these are more than a build accepts."""
    parts: dict[str, ImagePart] = {}
    unreadable: dict[str, str] = {}
    for sample in samples:
        try:
            parts[sample.id] = ImagePart.of_reader(partial(_image, sample, config))
        except ImageError as error:
            unreadable[sample.id] = str(error)
    drops = [Drop(key, reason) for key, reason in unreadable.items()]
    check_drop_fraction(config.source, drops, len(samples), config.data.max_drop_fraction, kept="nothing was sent")
    return parts, unreadable


def _image(sample: Sample, config: CaptionConfig) -> bytes:
    image = read_image(sample.image)
    assert image is not None
    return UprightImage(image) if config.data.exif == APPLY else image


def _question(sample: Sample, prompt: str, image: ImagePart, suffix: str = "") -> Question:
    text = prompt.replace(CLASS_NAME, str(sample.label_name))
    return Question(f"{sample.id}{suffix}", (Message("user", text, (image,)),))


def _second_question(
    config: CaptionConfig, samples: Mapping[str, Sample], first: Question, reply: Reply | None
) -> Question | None:
    """The question after a reply that is no caption, and after one that is not known yet."""
    sample = samples[first.id]
    if reply is not None and kind_of_reply(reply, str(sample.label_name)) == CAPTION:
        return None
    return _question(sample, config.second_prompt, first.messages[0].images[0], SECOND)


def _asked_again(path: Path, second: Sequence[Question], model: AskedModel, *, dry_run: bool) -> Replies:
    """The replies to the second questions; a dry run has only those that are stored."""
    if dry_run:
        return read_replies(path, {question.id: model.request_hash(question) for question in second})
    return ask_questions(path, second, model, name="second captions") if second else Replies()


def _kind(replies: Replies, key: str, sample: Sample) -> str:
    reply = replies.replies.get(key)
    return NO_REPLY if reply is None else kind_of_reply(reply, str(sample.label_name))


def _outcome(
    config: CaptionConfig, samples: Sequence[Sample], unreadable: Mapping[str, str], first: Replies, second: Replies
) -> tuple[CaptionSummary, list[tuple[Sample, str]]]:
    """The counts, and (image, caption) in the source's order."""
    captions: list[tuple[Sample, str]] = []
    left_out: dict[str, list[str]] = {}
    kinds: Counter[str] = Counter()
    not_asked = 0
    for sample in samples:
        key = sample.id
        if key in unreadable:
            left_out.setdefault(UNREADABLE, []).append(f"{key}: {unreadable[key]}")
            continue
        if key not in first.replies and key not in first.failures:
            not_asked += 1
            continue
        kind, reply = _kind(first, key, sample), first.replies.get(key)
        kinds[kind] += 1
        again = f"{key}{SECOND}"
        if kind not in (CAPTION, NO_REPLY) and (again in second.replies or again in second.failures):
            kind, reply = _kind(second, again, sample), second.replies.get(again)
        if kind == CAPTION and reply is not None:
            captions.append((sample, plain_caption(reply.text)))
        else:
            left_out.setdefault(kind, []).append(sample.id)
    summary = CaptionSummary(
        source=config.source,
        model=config.model,
        output=config.output,
        images=len(samples),
        captions=len(captions),
        first_replies=dict(kinds),
        asked_again=len(second.replies) + len(second.failures),
        left_out={kind: len(ids) for kind, ids in left_out.items()},
        not_asked=not_asked,
        examples={kind: ids[:SHOWN] for kind, ids in left_out.items()},
    )
    return summary, captions
