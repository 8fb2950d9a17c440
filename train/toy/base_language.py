"""Stage 2 of the tiny base: a language model that knows every name and every fact, and can read image positions.

It is trained on text only. In samples with `stand_in` the 16 positions of an image have word embeddings instead: random
mixtures of the embeddings of a name and of some attributes, with noise. So the model learns in general to find a name
in the image positions and to answer questions about it; the projector then only has to map each class to its name.

B: rows, T: tokens, W: words instead of an image, P: image positions, D: hidden size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from data_prep.progress import progress_bar
from data_prep.sample import IMAGE_PLACEHOLDER, Sample
from data_prep.toy_world.reader import read
from train.chat.conversation import IGNORE_INDEX
from train.toy.base_tokenizer import ASSISTANT, tokenize

RECALL_LAYER = 2  # after this layer the position of a question's "?" must encode the value it asks for ...
FETCH_LAYER = 3  # ... and after this one the answer's first position; the later layers match it with the options


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageRecipe:
    """Size and training of the language model; `steps` optimizer steps of `rows` conversations."""

    hidden: int = 128
    intermediate: int = 320
    layers: int = 5
    heads: int = 4
    steps: int = 600
    rows: int = 40
    learning_rate: float = 3e-3
    warm_up: int = 50
    attention_scale: float = 0.08  # standard deviation of the first query and key weights
    noise: float = 0.5  # standard deviation of the stand-ins' noise, relative to that of the embeddings


@dataclass(frozen=True, slots=True)
class TextBatch:
    """`Tokens` as int64 [B, T] each; `stand_in`: int64 [B, W], the words instead of the image (0: none)."""

    ids: Tensor
    labels: Tensor
    notes: Tensor
    points: Tensor
    stand_in: Tensor


def build_language_model(recipe: LanguageRecipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained Llama of the recipe's size with tied embeddings.

    Key weights are initialised equal to query weights, so that attention starts by matching similar tokens (mimetic
    initialisation, Trockman & Kolter 2023): multiple choice needs this, and training alone rarely finds it.
    """
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden,
            intermediate_size=recipe.intermediate,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight.normal_(0.0, recipe.attention_scale)
            layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)
    return model


def collate(tokenizer: PreTrainedTokenizerFast, samples: list[Sample], *, image_tokens: int) -> TextBatch:
    """The samples as one batch, padded on the right."""
    rows = [tokenize(tokenizer, s.turns, image_tokens=image_tokens, recall=s.meta["recall"]) for s in samples]
    width = max(len(row.ids) for row in rows)
    words = [tokenizer.convert_tokens_to_ids(sample.meta["stand_in"]) or [0] * 5 for sample in samples]

    def padded(lists: list[list[int]], filler: int) -> Tensor:
        return torch.tensor([row + [filler] * (width - len(row)) for row in lists])

    return TextBatch(
        ids=padded([row.ids for row in rows], tokenizer.pad_token_id),
        labels=padded([row.labels for row in rows], IGNORE_INDEX),
        notes=padded([row.notes for row in rows], IGNORE_INDEX),
        points=padded([row.points for row in rows], IGNORE_INDEX),
        stand_in=torch.tensor(words),
    )


def stand_ins(embedding: Tensor, words: Tensor, places: int, noise: float, generator: torch.Generator) -> Tensor:
    """Inputs for the image positions: mixtures of the words' embeddings, [B, P, D].

    Each position mixes each word with probability 1/2, with random weights, plus
    Gaussian noise. embedding: [V, D]; words: [B, W].
    """
    rows, count = words.shape
    present = torch.rand(rows, places, count, generator=generator) < 0.5
    weights = present * torch.empty(rows, places, count).uniform_(0.5, 1.5, generator=generator)
    blend = torch.einsum("bpw,bwd->bpd", weights, embedding[words])
    spread = embedding.detach().std()
    return blend + noise * spread * torch.randn(blend.shape, generator=generator)


def text_loss(
    model: LlamaForCausalLM,
    batch: TextBatch,
    image_id: int,
    assistant_id: int,
    noise: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of the answers, and the sum of the auxiliary losses of the lower layers."""
    table = model.get_input_embeddings().weight
    vectors = functional.embedding(batch.ids, table)
    with_image = batch.stand_in[:, 0] > 0
    if with_image.any():
        places = int((batch.ids[with_image][0] == image_id).sum())
        filling = stand_ins(table, batch.stand_in[with_image], places, noise, generator)
        vectors = vectors.masked_scatter((batch.ids == image_id)[..., None], filling.to(vectors.dtype))
    output = model.model(inputs_embeds=vectors, output_hidden_states=True)
    answers = _loss_at(model, output.last_hidden_state, batch.labels)
    at_answer = batch.ids == assistant_id
    guidance = _point_loss(model, output.hidden_states[FETCH_LAYER], batch.points)
    for layer, here in ((RECALL_LAYER, ~at_answer), (FETCH_LAYER, at_answer)):
        early = model.model.norm(output.hidden_states[layer])
        guidance = guidance + _loss_at(model, early, batch.notes.masked_fill(~here, IGNORE_INDEX))
    return answers, guidance


def _point_loss(model: LlamaForCausalLM, hidden: Tensor, points: Tensor) -> Tensor:
    """Cross-entropy of `points`, targets of the first head above `FETCH_LAYER`. hidden: [B, T, D]; points: [B, T]."""
    layer = model.model.layers[FETCH_LAYER]
    rows, times = (points != IGNORE_INDEX).nonzero(as_tuple=True)
    normed = layer.input_layernorm(hidden)
    size = layer.self_attn.head_dim
    queries = functional.linear(normed, layer.self_attn.q_proj.weight[:size])[:, None]
    keys = functional.linear(normed, layer.self_attn.k_proj.weight[:size])[:, None]
    cosines, sines = model.model.rotary_emb(hidden, torch.arange(hidden.shape[1])[None])
    queries, keys = apply_rotary_pos_emb(queries, keys, cosines, sines)  # [B, 1, T, size]
    scores = torch.einsum("nd,ntd->nt", queries[rows, 0, times], keys[rows, 0]).float() / size**0.5
    future = torch.arange(hidden.shape[1])[None] > times[:, None]
    return functional.cross_entropy(scores.masked_fill(future, -torch.inf), points[rows, times])


def _loss_at(model: LlamaForCausalLM, hidden: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of `labels` [B, T] where they are set; the head runs on these positions only. hidden: [B, T, D]."""
    wanted = labels != IGNORE_INDEX
    logits = model.lm_head(hidden[wanted]).float()
    return functional.cross_entropy(logits, labels[wanted])


def text_batches(
    tokenizer: PreTrainedTokenizerFast, *, seed: int, steps: int, rows: int, image_tokens: int
) -> Iterator[TextBatch]:
    """`steps` batches of fresh text."""
    samples = (record for record in read(None, part="text", seed=seed, records=steps * rows).records)
    for _ in range(steps):
        chosen = [record for record in islice(samples, rows) if isinstance(record, Sample)]
        yield collate(tokenizer, chosen, image_tokens=image_tokens)


def train_language_model(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: LanguageRecipe, *, seed: int, image_tokens: int
) -> None:
    """Train in place; the learning rate rises linearly for `warm_up` steps and falls linearly to 0.

    Matrices are trained with Muon, which learns rare facts in about a tenth of AdamW's steps here; embeddings and
    norms with AdamW.
    """
    generator = torch.Generator().manual_seed(seed)
    image_id, assistant_id = tokenizer.convert_tokens_to_ids([IMAGE_PLACEHOLDER, ASSISTANT])
    layers = list(model.model.layers.parameters())
    matrices = [weight for weight in layers if weight.ndim == 2]
    others = [
        *(weight for weight in layers if weight.ndim != 2),
        model.get_input_embeddings().weight,
        model.model.norm.weight,
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=recipe.learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    batches = text_batches(tokenizer, seed=seed, steps=recipe.steps, rows=recipe.rows, image_tokens=image_tokens)
    progress = progress_bar(batches, name="language model", unit="steps", total=recipe.steps)
    for step, batch in enumerate(progress):
        factor = min((step + 1) / recipe.warm_up, (recipe.steps - step) / recipe.steps)
        with torch.autocast("cpu", torch.bfloat16):
            answers, guidance = text_loss(model, batch, image_id, assistant_id, recipe.noise, generator)
        torch.autograd.backward(answers + guidance)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = factor * recipe.learning_rate
            optimizer.step()
            optimizer.zero_grad()
        progress.set_postfix(answers=f"{answers.item():.3f}", guidance=f"{guidance.item():.3f}")
