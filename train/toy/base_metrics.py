"""Measures the finished tiny base as the demo does: by greedy generation."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from data_prep.sample import Sample
from data_prep.toy_world.facts import ALL_FACTS, CLASSES, keyed_rng, toy_classes
from data_prep.toy_world.reader import choice, class_frequency, conversation, read
from train.toy.base_tokenizer import tokenize
from train.toy.base_vision import image_bytes, linear_probe, to_pixels

NAME_TOKENS = 6  # enough for "this is a vel kano."


def measure(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    records: int,
    per_class: int = 10,
) -> dict[str, float]:
    """Every figure as a fraction between 0 and 1; `per_class` test images (and text questions) per class.

    `classification_rare`, `_middle` and `_common` are thirds of the classes by `class_frequency`.
    """
    size = model.config.vision_config.image_size
    return {
        "linear_probe": linear_probe(model.model.vision_tower, seed=seed, image_size=size),
        "text_choice": accuracy_of_letters(model, tokenizer, text_questions(seed, CLASSES * per_class)),
        **classification(model, tokenizer, seed=seed, records=records, per_class=per_class),
        "knowledge": accuracy_of_letters(
            model,
            tokenizer,
            _samples("knowledge_test", seed, per_class, size),
        ),
    }


def text_questions(seed: int, count: int) -> list[Sample]:
    """Multiple choice without an image, the class named in the question; all fact kinds. Not in the part `text`."""
    questions = []
    for index in range(count):
        rng = keyed_rng(seed, f"measured text {index}")
        toy_class = toy_classes(seed)[index % CLASSES]
        exchange = choice(toy_class, toy_class.name, ALL_FACTS, rng)
        questions.append(
            Sample(id=f"measured-{index}", turns=conversation([exchange], image=False), meta={"answer": exchange[1]})
        )
    return questions


def accuracy_of_letters(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, samples: Sequence[Sample]
) -> float:
    """Share of answers whose first word is the right letter; any other answer is wrong."""
    answers = greedy_answers(model, tokenizer, samples, new_tokens=1)
    right = [bool(answer == sample.meta["answer"]) for answer, sample in zip(answers, samples, strict=True)]
    return sum(right) / len(right)


def classification(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, *, seed: int, records: int, per_class: int
) -> dict[str, float]:
    """Open-world classification: share of answers that contain the class name, overall and by frequency third."""
    samples = _samples("classification_test", seed, per_class, model.config.vision_config.image_size)
    answers = greedy_answers(model, tokenizer, samples, new_tokens=NAME_TOKENS)
    frequency = class_frequency(seed, records=records)
    by_frequency = sorted(frequency, key=lambda name: (frequency[name], name))
    third = {name: place * 3 // len(by_frequency) for place, name in enumerate(by_frequency)}
    right: dict[int, list[bool]] = defaultdict(list)
    for answer, sample in zip(answers, samples, strict=True):
        assert sample.label_name is not None
        right[third[sample.label_name]].append(sample.label_name in answer)
    parts = {
        f"classification_{name}": sum(right[i]) / len(right[i]) for i, name in enumerate(("rare", "middle", "common"))
    }
    return {"classification": sum(sum(values) for values in right.values()) / len(samples), **parts}


@torch.no_grad()
def greedy_answers(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    samples: Sequence[Sample],
    *,
    new_tokens: int,
    batch: int = 240,
) -> list[str]:
    """The answer to each sample's first question, in order. Questions of one length form an unpadded batch."""
    vision = model.config.vision_config
    image_tokens = (vision.image_size // vision.patch_size) ** 2
    prompts = [tokenize(tokenizer, sample.turns[:1], image_tokens=image_tokens).ids for sample in samples]
    alike: dict[tuple[int, bool], list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        alike[len(prompts[index]), sample.image is not None].append(index)
    answers = [""] * len(samples)
    for (length, with_image), indices in alike.items():
        for start in range(0, len(indices), batch):
            chosen = indices[start : start + batch]
            ids = torch.tensor([prompts[i] for i in chosen])
            images = {"pixel_values": to_pixels([image_bytes(samples[i]) for i in chosen])} if with_image else {}
            output = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=new_tokens,
                **images,
            )
            for i, row in zip(chosen, output[:, length:], strict=True):
                answers[i] = tokenizer.decode(row, skip_special_tokens=True)
    return answers


def _samples(part: str, seed: int, per_class: int, image_size: int) -> list[Sample]:
    source = read(None, part=part, seed=seed, images_per_class=per_class, image_size=image_size)
    return [sample for sample in source.records if isinstance(sample, Sample)]
