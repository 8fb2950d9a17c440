"""Images per second of each way to evaluate a loaded LLaVA, and of transformers' ways, measured one by one.

    for rate in measured_rates(model, family, names, RateOptions(batches=(8, 64))):
        print(json.dumps(rate))

Ours: `top1` (only the best name), `greedy` (answers of `ANSWER` tokens) and `scoring` (all names). Others: `generate`
(transformers' own, the same answers) and `forward_per_name` (one forward pass a name, scaled from a few names). All
start from uint8 pixels on the device. The caller may stop after any rate: the cases that goals are set for come first.
Tensor shapes: `B` images, `T` tokens of a prompt, `H` hidden size, `S` pixels a side, `V` vocabulary.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from eval.class_scores.rules import Rule
from eval.class_scores.trie import ClassTrie
from eval.models.class_likelihood.slots import Prefix
from eval.models.class_likelihood.tree_forward import TreeForward
from eval.models.class_likelihood.tree_scorer import GROUP, SEARCH_ROOM, TreeScorer
from eval.models.decoder_input import DecoderInput
from eval.models.greedy import Greedy, LanguageModel, Stop
from eval.models.kernels import layer_parts
from train.models.images import ImageBatch
from train.models.layer_parts import as_written
from train.models.square_images import PIXELS
from train.models.trainable import TrainableFamily

SYSTEM, QUESTION, ANSWER = 35, 17, 5  # tokens
LABELS = {
    "top1": "only the best name",
    "greedy": f"answers of {ANSWER} tokens",
    "scoring": "all names scored",
    "generate": "transformers' generate",
    "forward_per_name": "one forward pass a name",
}
WAYS = tuple(LABELS)
GOALS = {("top1", 8): 40.0, ("greedy", 64): 60.0, ("scoring", 8): 15.0}  # images per second of a 7B model on one H200
COMPARED = {"greedy": ("generate",), "scoring": ("forward_per_name",), "top1": ("forward_per_name",)}


@dataclass(frozen=True)
class RateOptions:
    """What is measured, and how long."""

    batches: tuple[int, ...] = (8, 64)
    """Images at a time; every way is measured at each."""
    ways: tuple[str, ...] = WAYS
    runs: int = 3
    """Times each way is measured after one run that is not; the least counts."""
    seconds: float = 20.0
    """A way is not repeated once its runs have taken this long."""
    sharpness: float = 10.0
    """Factor of the logits for `top1`: the number of nodes it needs depends on how confident the model is."""
    kernels: str = "auto"
    """Kernels of ours, as `kernels` of an evaluation."""
    names_forwarded: int = 4
    """Names that `forward_per_name` is scaled from."""

    @property
    def cases(self) -> list[tuple[str, int]]:
        """(way, batch), those with a goal first, then their comparisons."""
        first = [*GOALS, ("generate", 8), ("generate", 64), ("forward_per_name", 8)]
        every = [(way, batch) for batch in self.batches for way in self.ways]
        return [*(case for case in first if case in every), *(case for case in every if case not in first)]


def measured_rates(
    model: Any, family: TrainableFamily, names: Sequence[Sequence[int]], options: RateOptions
) -> Iterator[dict[str, Any]]:
    """One row for each case as it is measured: `way`, `batch`, `seconds` of a batch, `images_per_second`, …

    `names` are the classes' token ids. The model's weights stay as they are. Where the device's memory is not enough,
    the row has an `error` in place of the figures.
    """
    rated = _RatedModel(model.eval(), family, ClassTrie(names), options)
    for way, batch in options.cases:
        try:
            yield {"way": way, "batch": batch, **_measured(rated.ways[way], batch, options, rated.device)}
        except torch.OutOfMemoryError:
            yield {"way": way, "batch": batch, "error": "the device has not enough memory"}
        rated.forget()


def ratios(rates: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Images per second of ours over those of each comparison, for all batch sizes: "greedy 64 / generate 8"."""
    speed = {(rate["way"], rate["batch"]): rate["images_per_second"] for rate in rates if "error" not in rate}
    return {
        f"{ours} {batch} / {theirs} {other}": own / value
        for (ours, batch), own in speed.items()
        for (theirs, other), value in speed.items()
        if theirs in COMPARED.get(ours, ())
    }


@dataclass
class _RatedModel:
    """The ways of one model; each takes a number of images and returns figures to add to its row."""

    model: Any
    family: TrainableFamily
    trie: ClassTrie
    options: RateOptions
    _held: dict[int, ImageBatch] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def ways(self) -> dict[str, Callable[[int], dict[str, Any]]]:
        return {way: getattr(self, f"_{way}") for way in WAYS}

    @cached_property
    def parts(self) -> LanguageModel:
        family, model = self.family, self.model
        modules = family.decoder(model), family.head(model), family.word_embeddings(model)
        return LanguageModel(*modules, family.text_config, layer_parts(self.options.kernels, modules[0]))

    @cached_property
    def greedy(self) -> Greedy:
        return Greedy(self.parts, self.family.image_token_id)

    @cached_property
    def scorer(self) -> TreeScorer:
        return self._scorer(1.0)

    @cached_property
    def sharp_scorer(self) -> TreeScorer:
        return self._scorer(self.options.sharpness)

    def _scorer(self, sharpness: float) -> TreeScorer:
        parts = self.parts
        head = parts.head if sharpness == 1 else _ScaledHead(parts.head, sharpness)
        image_token = self.family.image_token_id
        return TreeScorer(
            TreeForward(parts.decoder, head, parts.words, parts.config, image_token=image_token, parts=parts.parts)
        )

    def forget(self) -> None:
        """Free the keys that the ways hold from batch to batch."""
        for name in ("greedy", "scorer", "sharp_scorer"):
            self.__dict__.pop(name, None)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def ids(self, count: int) -> list[list[int]]:
        """Ids of `count` prompts."""
        drawn = torch.Generator().manual_seed(0)
        words = torch.randint(5, self.family.text_config.vocab_size, (SYSTEM + QUESTION,), generator=drawn).tolist()
        image = [self.family.image_token_id] * self.family.image_tokens()
        return [[*words[:SYSTEM], *image, *words[SYSTEM:]]] * count

    def pixels(self, count: int) -> ImageBatch:
        """(B, 3, S, S) random uint8 on the device; drawn once, so not in the time of the runs."""
        if count not in self._held:
            self._held.clear()
            shape = self.family.dummy_images().tensors[PIXELS].shape[1:]
            drawn = torch.Generator().manual_seed(count)
            pixels = torch.randint(0, 256, (count, *shape), generator=drawn, dtype=torch.uint8)
            self._held[count] = ImageBatch({PIXELS: pixels.to(self.device)}, count)
        return self._held[count]

    @torch.inference_mode()
    def prompts(self, count: int) -> tuple[list[list[int]], DecoderInput]:
        """Ids, and what the decoder takes for them, computed as in an evaluation."""
        ids = self.ids(count)
        tokens = torch.tensor(ids, device=self.device)
        return ids, DecoderInput.of(self.family.embed(self.model, tokens, self.pixels(count)))

    @torch.inference_mode()
    def _prefix(self, scorer: TreeScorer, count: int, nodes: int) -> Prefix:
        ids, inputs = self.prompts(count)
        return scorer.tree.prefill(inputs, min(nodes, len(self.trie.inner)) + self.trie.depth, ids)

    def _scoring(self, count: int) -> dict[str, Any]:
        self.scorer.log_probs(self._prefix(self.scorer, count, GROUP), self.trie)
        return {"names": len(self.trie.names), "nodes": len(self.trie.inner)}

    def _top1(self, count: int) -> dict[str, Any]:
        found = self.sharp_scorer.top1(self._prefix(self.sharp_scorer, count, SEARCH_ROOM), self.trie, Rule("sum"))
        return {"mean_nodes": sum(best.nodes_expanded for best in found) / count}

    def _greedy(self, count: int) -> dict[str, Any]:
        self.greedy.answers(*self.prompts(count), Stop(frozenset(), ANSWER))
        return {"tokens": ANSWER}

    def _generate(self, count: int) -> dict[str, Any]:
        ids = torch.tensor(self.ids(count), device=self.device)
        pixels = self.family.normalized(self.pixels(count).tensors[PIXELS], self.model.dtype)
        with torch.inference_mode(), as_written(self.model):
            made = self.model.generate(
                input_ids=ids,
                pixel_values=pixels,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=ANSWER,
                eos_token_id=self.family.text_config.vocab_size,  # no token: all answers have the same length
                pad_token_id=0,
            )
        return {"tokens": made.shape[1] - ids.shape[1]}

    @torch.inference_mode()
    def _forward_per_name(self, count: int) -> dict[str, Any]:
        """The prompt and one name at a time, logits at the name's positions; vision runs once."""
        by_length = sorted(self.trie.names, key=len)
        some = self.options.names_forwarded
        embeddings = self.prompts(count)[1].states
        for name in [by_length[number * len(by_length) // some] for number in range(some)]:
            words = self.parts.words(torch.tensor([name], device=self.device)).expand(count, -1, -1)
            whole = torch.cat([embeddings, words], 1)  # (B, T + name, H)
            with as_written(self.model):
                states = self.parts.decoder(inputs_embeds=whole, use_cache=False).last_hidden_state
            self.parts.head(states[:, -len(name) - 1 : -1]).float().log_softmax(-1)
        return {"scaled_from_names": some, "scale": len(by_length) / some}


def _measured(
    way: Callable[[int], dict[str, Any]], batch: int, options: RateOptions, device: torch.device
) -> dict[str, Any]:
    """The least time of a few runs after one that includes the choice of kernels; `scale` multiplies it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    figures, taken = way(batch), [_seconds(way, batch, device)]
    while len(taken) < options.runs and sum(taken) < options.seconds:
        taken.append(_seconds(way, batch, device))
    seconds = min(taken) * figures.get("scale", 1)
    memory = {"peak_gib": torch.cuda.max_memory_allocated() / 2**30} if device.type == "cuda" else {}
    return {"seconds": seconds, "images_per_second": batch / seconds, "runs": len(taken), **figures, **memory}


def _seconds(way: Callable[[int], Any], batch: int, device: torch.device) -> float:
    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    wait()
    start = time.perf_counter()
    way(batch)
    wait()
    return time.perf_counter() - start


class _ScaledHead(nn.Module):
    """A head with its logits multiplied."""

    def __init__(self, head: nn.Module, factor: float):
        super().__init__()
        self.head, self.factor = head, factor

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(states)
        return logits * self.factor
