"""Stage 3 of the tiny base: assemble the LLaVA model and train its projector, first on captions, then conversations.

Tower and language model are frozen. The data are imbalanced like LLaVA's: common classes are named in them, rare ones
are not, although the tower distinguishes all classes and the language model knows the facts about all of them.

B: rows, T: tokens, P: patches, D: hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPVisionModel,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from data_prep.progress import progress_bar
from data_prep.sample import IMAGE_PLACEHOLDER, Sample
from data_prep.toy_world.facts import keyed_rng
from data_prep.toy_world.reader import read
from train.chat.conversation import IGNORE_INDEX
from train.models.checked_loading import quiet_transformers
from train.optimization.schedule import half_cosine
from train.toy.base_tokenizer import Tokens, tokenize
from train.toy.base_vision import FEATURE_LAYER, image_bytes, patch_features, to_pixels
from train.toy.model_files import padding_processor


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorRecipe:
    """Training of the projector: `alignment_epochs` passes over captions, `instruct_epochs` over conversations."""

    records: int = 2000
    alignment_epochs: int = 4
    instruct_epochs: int = 3
    learning_rate: float = 2e-3
    rows: int = 64


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation for training: its tokens, and the row of its image's features (None: no image)."""

    tokens: Tokens
    image: int | None


def assemble(
    tower: CLIPVisionModel, language_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, image_tokens: int
) -> LlavaForConditionalGeneration:
    """The LLaVA model of the two, with a new projector."""
    tied = bool(language_model.config.tie_word_embeddings)
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=tower.config,
            text_config=language_model.config,
            image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_PLACEHOLDER),
            image_seq_length=image_tokens,
            projector_hidden_act="gelu",
            vision_feature_select_strategy="default",
            vision_feature_layer=FEATURE_LAYER,
            tie_word_embeddings=tied,
        )
    )
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.model.language_model.load_state_dict(language_model.model.state_dict())
    if tied:
        model.tie_weights()
    else:
        model.lm_head.load_state_dict(language_model.lm_head.state_dict())
    return model.requires_grad_(False).eval()


def save(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    output: Path,
    generation: GenerationConfig | None = None,
) -> None:
    """Write the model and its processor as one Hugging Face folder, in float32.

    Answers also end with the end tokens of `generation`, the language model's own settings.
    """
    stated = None if generation is None else generation.eos_token_id
    others = [stated] if isinstance(stated, int) else list(stated or ())
    ends = list(dict.fromkeys([tokenizer.eos_token_id, *others]))
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends if len(ends) > 1 else ends[0],
        pad_token_id=tokenizer.pad_token_id,
    )
    with quiet_transformers():
        model.save_pretrained(output)
    LlavaProcessor(
        image_processor=padding_processor(model.config.vision_config.image_size),
        tokenizer=tokenizer,
        patch_size=model.config.vision_config.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    ).save_pretrained(output)


def projector_loss(
    model: LlavaForConditionalGeneration, examples: Sequence[Example], features: Tensor, pad_id: int
) -> Tensor:
    """Mean cross-entropy of the answers' tokens. features: [images, P, D_vision], of the frozen tower."""
    width = max(len(example.tokens.ids) for example in examples)
    ids = torch.tensor([example.tokens.ids + [pad_id] * (width - len(example.tokens.ids)) for example in examples])
    labels = torch.tensor(
        [example.tokens.labels + [IGNORE_INDEX] * (width - len(example.tokens.labels)) for example in examples]
    )
    vectors = model.get_input_embeddings()(ids)
    shown = [example.image for example in examples if example.image is not None]
    places = (ids == model.config.image_token_id)[..., None]
    projected = model.model.multi_modal_projector(features[shown])
    vectors = vectors.masked_scatter(places, projected.to(vectors.dtype))
    hidden = model.model.language_model(inputs_embeds=vectors).last_hidden_state
    wanted = labels != IGNORE_INDEX
    return functional.cross_entropy(model.lm_head(hidden[wanted]).float(), labels[wanted])


def train_projector(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    samples: Sequence[Sample],
    recipe: ProjectorRecipe,
    *,
    epochs: int,
    seed: int,
    title: str,
) -> None:
    """Train the projector in place on `samples`: AdamW, 3 % warm-up, cosine to zero."""
    rows = recipe.rows
    vision = model.config.vision_config
    image_tokens = (vision.image_size // vision.patch_size) ** 2
    pngs = [image_bytes(sample) for sample in samples if sample.image is not None]
    features = patch_features(model.model.vision_tower, to_pixels(pngs))
    numbers = iter(range(len(pngs)))
    examples = [
        Example(tokenize(tokenizer, s.turns, image_tokens=image_tokens), next(numbers) if s.image is not None else None)
        for s in samples
    ]
    projector = model.model.multi_modal_projector.requires_grad_(True)
    optimizer = torch.optim.AdamW(projector.parameters(), lr=recipe.learning_rate, weight_decay=0.0)
    order = [int(i) for epoch in range(epochs) for i in keyed_rng(seed, f"{title} {epoch}").permutation(len(samples))]
    steps = max(1, len(order) // rows)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, steps))
    progress = progress_bar(range(steps), name=title, unit="steps")
    for step in progress:
        batch = [examples[i] for i in order[step * rows : (step + 1) * rows]]
        loss = projector_loss(model, batch, features, tokenizer.pad_token_id)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(projector.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        progress.set_postfix(loss=f"{loss.item():.3f}")
    projector.requires_grad_(False)


def cosine(step: int, steps: int, warm_up: float = 0.03) -> float:
    """Factor on the learning rate: linear warm-up over the share `warm_up` of the steps, then a half cosine to 0."""
    rise = max(1, round(warm_up * steps))
    if step < rise:
        return (step + 1) / rise
    return half_cosine((step - rise) / max(1, steps - rise))


def teach_images(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, recipe: ProjectorRecipe, *, seed: int
) -> None:
    """Train the projector on the parts `alignment` and `instruct` of the world `seed`, in this order."""
    size = model.config.vision_config.image_size
    for part, epochs in (("alignment", recipe.alignment_epochs), ("instruct", recipe.instruct_epochs)):
        source = read(None, part=part, seed=seed, records=recipe.records, image_size=size)
        train_projector(
            model,
            tokenizer,
            [sample for sample in source.records if isinstance(sample, Sample)],
            recipe,
            epochs=epochs,
            seed=seed,
            title=part,
        )
