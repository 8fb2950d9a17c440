"""Images per second of a complete LLaVA with random weights: all names scored, only the best name, greedy answers.

    python -m eval.benchmarks.image_rates --shape llava-1.5-7b --device cuda --tokenizer DIR [--json]

From uint8 pixels on the device (no JPEGs are decoded) through vision tower, projector and language model, in bf16 on a
GPU and fp32 on a CPU. Names are ImageNet's, tokenized with `--tokenizer`, after 35 tokens of system prompt, the image
and 17 tokens of question; answers have 5 tokens, as those of fine-tuned models. Only the speed of the best name depends
on weights: the head's weights are multiplied by `--sharpness`, so that the model is confident, and the output has the
number of nodes of the tree that were needed.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from configs.command_line import add_json, command_parser, emit_json, exit_on_user_error
from configs.errors import UserError
from eval.benchmarks.class_scoring import class_tokens
from eval.class_scores.rules import Rule
from eval.class_scores.trie import ClassTrie
from eval.models.class_likelihood.tree_forward import Prefix, TreeForward
from eval.models.class_likelihood.tree_scorer import TreeScorer
from eval.models.greedy import Greedy, LanguageModel, Stop
from train.models.images import ImageBatch
from train.models.llava import LlavaFamily
from train.toy.random_models import SHAPES, random_model

SYSTEM, QUESTION, ANSWER = 35, 17, 5  # tokens
GOALS = {"scoring": 10.0, "top1": 35.0, "greedy": 40.0}  # images per second of a 7B model on one H200
LABELS = {"scoring": "all names scored", "top1": "only the best name", "greedy": f"answers of {ANSWER} tokens"}


@dataclass(frozen=True)
class _Pictures:
    """The model, and its prompts with random images."""

    model: Any
    sharpness: float

    @property
    def family(self) -> LlavaFamily:
        """The model's family, made from its config: no files are loaded."""
        return LlavaFamily(self.model.config)

    def __post_init__(self) -> None:
        with torch.no_grad():
            next(self.parts.head.parameters()).mul_(self.sharpness)

    @property
    def parts(self) -> LanguageModel:
        """The language model."""
        family, model = self.family, self.model
        modules = family.decoder(model), family.head(model), family.word_embeddings(model)
        return LanguageModel(*modules, family.text_config)

    @torch.inference_mode()
    def prompts(self, count: int) -> tuple[list[list[int]], torch.Tensor]:
        """Ids of `count` questions, and their embeddings (B, T, H), computed as in an evaluation."""
        family = self.family
        drawn = torch.Generator().manual_seed(count)
        words = torch.randint(5, family.text_config.vocab_size, (SYSTEM + QUESTION,), generator=drawn).tolist()
        image = [family.image_token_id] * family.image_tokens()
        ids = [[*words[:SYSTEM], *image, *words[SYSTEM:]]] * count
        shape = family.dummy_images().tensors["pixels"].shape[1:]
        pixels = torch.randint(0, 256, (count, *shape), generator=drawn, dtype=torch.uint8)
        embeddings = family.embed(
            self.model, torch.tensor(ids, device=self.model.device), ImageBatch({"pixels": pixels}, count)
        )
        return ids, embeddings


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Images per second of the three methods, each with its batch size."""
    dtype = torch.float32 if arguments.device == "cpu" else torch.bfloat16
    pictures = _Pictures(random_model(arguments.shape, dtype, device=arguments.device).eval(), arguments.sharpness)
    parts = pictures.parts
    vocabulary = pictures.family.text_config.vocab_size  # a tiny model has fewer tokens
    trie = ClassTrie([[token % vocabulary for token in n] for n in class_tokens(arguments.tokenizer, "imagenet")])
    scorer = TreeScorer(TreeForward(parts.decoder, parts.head, parts.words, parts.config))
    greedy = Greedy(parts, pictures.family.image_token_id)

    def prompts() -> Prefix:
        ids, embeddings = pictures.prompts(arguments.score_batch)
        with torch.inference_mode():
            return scorer.tree.prefill(embeddings, _ones(ids, embeddings), scorer.group + trie.depth)

    def answers() -> list[list[int] | None]:
        ids, embeddings = pictures.prompts(arguments.answer_batch)
        return greedy.answers(ids, embeddings, _ones(ids, embeddings), Stop(frozenset(), ANSWER))

    ways: dict[str, tuple[int, Callable[[], Any]]] = {
        "scoring": (arguments.score_batch, lambda: scorer.log_probs(prompts(), trie)),
        "top1": (arguments.score_batch, lambda: scorer.top1(prompts(), trie, Rule("sum"))),
        "greedy": (arguments.answer_batch, answers),
    }
    result: dict[str, Any] = {"shape": arguments.shape, "device": arguments.device, "names": len(trie.names)}
    for name, (batch, way) in ways.items():
        said = way()  # the first call includes the choice of kernels
        seconds = min(_seconds(way, arguments.device) for _ in range(arguments.runs))
        result[name] = {"batch": batch, "seconds": seconds, "images_per_second": batch / seconds}
        if name == "top1":
            result[name]["mean_nodes"] = sum(best.nodes_expanded for best in said) / batch
    return result


def _ones(ids: Sequence[Sequence[int]], embeddings: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(ids), len(ids[0]), dtype=torch.long, device=embeddings.device)


def _seconds(way: Callable[[], Any], device: str) -> float:
    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    wait()
    start = time.perf_counter()
    way()
    wait()
    return time.perf_counter() - start


def as_text(result: dict[str, Any]) -> str:
    """The result as text, one line for each method, with the goal on an H200."""
    lines = [f"{result['shape']} on {result['device']}, {result['names']:,} ImageNet names"]
    for name, goal in GOALS.items():
        row = result[name]
        nodes = f", {row['mean_nodes']:.1f} nodes an image" if "mean_nodes" in row else ""
        aim = f" (goal {goal:.0f} on an H200)" if result["shape"] == "llava-1.5-7b" else ""
        lines.append(f"  {LABELS[name]}: {row['images_per_second']:.2f} images/s{aim}, {row['batch']} at a time{nodes}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print. Exits with code 2 on a mistake in the arguments."""
    parser = command_parser(__doc__)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="llava-1.5-7b", help="default llava-1.5-7b")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="default cuda")
    parser.add_argument("--tokenizer", default="llava-hf/llava-1.5-7b-hf", help="folder, file or hub id (LLaMA's)")
    parser.add_argument("--score-batch", type=int, default=8, help="images scored at a time (default 8)")
    parser.add_argument("--answer-batch", type=int, default=64, help="images answered at a time (default 64)")
    parser.add_argument("--sharpness", type=float, default=10.0, help="factor of the head's weights (default 10)")
    parser.add_argument("--runs", type=int, default=3, help="times each way is measured; the least counts")
    add_json(parser)
    arguments = parser.parse_args(argv)
    try:
        result = measure(arguments)
    except UserError as error:
        exit_on_user_error(error)
    if not emit_json(arguments.json, result):
        print(as_text(result))


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    main()
