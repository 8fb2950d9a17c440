"""Time and number of tokens that class scores take, next to the authors' loop and a forward pass a name."""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from configs.command_line import emit_json, exit_on_user_error
from configs.errors import UserError
from data_prep.class_names import load_class_list
from data_prep.prompts import classification_prompt, image_question
from data_prep.sample import Turn
from eval.benchmarks.confident_toy_model import ConfidentToyModel, train_peaked
from eval.benchmarks.reference_scoring import cached_loop, full_forward
from eval.class_scores.rules import Floats, Rule, class_scores
from eval.class_scores.trie import ClassTrie, answer_tokens
from eval.models.class_likelihood.tree_forward import TreeForward, scoring_attention
from eval.models.class_likelihood.tree_scorer import ROUND_ROWS, TreeScorer
from eval.models.cpu_matmul import default_products
from eval.models.decoder_input import DecoderInput
from train.chat.render import ChatRenderer
from train.chat.tokenizer import load_tokenizer
from train.models.embedded import Embedded

GOALS = {"loop": 30.0, "full": 150.0, "sum": 0.02, "cfg": 0.05}
RUNS = 3  # of every method in turn; the minimum counts
IMAGES = 100  # for top-1
ROUND_IMAGES = 8  # at a time, for the rounds of top-1
ROUNDS = {"cpu": 0, "gpu": ROUND_ROWS["cuda"]}  # nodes of all images that a round is filled up to
RULES = {"sum": Rule("sum"), "mean": Rule("mean"), "cfg": Rule("cfg", 3.0)}


def measure_and_print(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    try:
        names = {classes: class_tokens(arguments.tokenizer, classes) for classes in ("imagenet", "stanford_cars")}
    except UserError as error:
        exit_on_user_error(error)
    tree = _random_tree(arguments)
    speed = {"fp32": measure_speed(tree, names["imagenet"], arguments)}
    tokens = count_tokens(tree, names, arguments.prefix)
    for part in (tree.decoder, tree.head):
        part.to(torch.bfloat16)
    speed["bf16"] = measure_speed(tree, names["imagenet"], arguments)
    result = {
        "prefix": arguments.prefix,
        "tokens": tokens,
        "speed": speed,
        "top1": None if arguments.no_top1 else count_nodes(names["imagenet"]),
    }
    if not emit_json(arguments.json, result):
        print(as_text(result))


def class_tokens(tokenizer: str, classes: str) -> list[list[int]]:
    """The ids of a shipped list's names as answers to the paper's question."""
    turns = (Turn("human", image_question(classification_prompt("paper"))),)
    return answer_tokens(ChatRenderer(load_tokenizer(tokenizer)), turns, "", load_class_list(classes).names)


def _random_tree(arguments: argparse.Namespace) -> TreeForward:
    config = LlamaConfig(
        hidden_size=arguments.hidden,
        intermediate_size=int(arguments.hidden * 2.6875),
        num_hidden_layers=arguments.layers,
        num_attention_heads=max(1, arguments.hidden // 64),
        vocab_size=32000,
        max_position_embeddings=4096,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    return TreeForward(model.model, model.lm_head, model.model.embed_tokens, model.config)


def _prompt(tree: TreeForward, length: int) -> torch.Tensor:
    """(1, length, H) embeddings of a prompt."""
    torch.manual_seed(1)
    tokens = torch.randint(10, 32000, (1, length))
    with torch.inference_mode():
        embeddings: torch.Tensor = tree.words(tokens)
    return embeddings


def _score_all(tree: TreeForward, trie: ClassTrie, prompt: torch.Tensor) -> tuple[Any, int]:
    """Prefill and the whole tree: (log-probabilities of nodes, number of tokens forwarded)."""
    scorer = TreeScorer(tree)
    with torch.inference_mode():
        prefix = tree.prefill(DecoderInput.of(Embedded(prompt)), scorer.group + trie.depth)
    return scorer.log_probs(prefix, trie)[0], prompt.shape[1] + scorer.tokens_forwarded


def count_tokens(tree: TreeForward, names: dict[str, list[list[int]]], prefix: int) -> dict[str, Any]:
    """Tokens forwarded for one image, counted in the forward passes; the goal is prefix + inner nodes."""
    counts = {}
    for classes, tokens in names.items():
        trie = ClassTrie(tokens)
        _, forwarded = _score_all(tree, trie, _prompt(tree, prefix))
        counts[classes] = {"names": len(tokens), "forwarded": forwarded, "behind_prefix": forwarded - prefix}
    return counts


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this process that `work` takes, and its result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def measure_speed(tree: TreeForward, names: list[list[int]], arguments: argparse.Namespace) -> dict[str, Any]:
    """One image, all names: CPU seconds of our method and of the two slow ones, and their largest difference.

    The methods run in turns, `RUNS` times, and the minimum of each counts.
    """
    trie, prompt = ClassTrie(names), _prompt(tree, arguments.prefix)
    kernel = scoring_attention("auto", "cpu", "bf16" if prompt.dtype == torch.bfloat16 else "fp32")
    by_length = sorted(range(len(names)), key=lambda index: len(names[index]))
    some = [by_length[int(place)] for place in np.linspace(0, len(names) - 1, arguments.loop_classes)]
    few = [by_length[int(place)] for place in np.linspace(0, len(names) - 1, arguments.full_classes)]

    def ours() -> Any:
        return _with_kernel(tree, kernel, lambda: _score_all(tree, trie, prompt)[0])

    def default() -> Any:
        with default_products():
            return ours()

    def split() -> Any:
        tree.splits_attention = True
        try:
            return _with_kernel(tree, "sdpa", lambda: _score_all(tree, trie, prompt)[0])
        finally:
            tree.splits_attention = False

    sides: dict[str, Callable[[], Any]] = {
        "ours": ours,
        "split": split,
        "default_products": default,
        "prefill": lambda: cached_loop(tree, prompt, []),
        "loop": lambda: cached_loop(tree, prompt, [names[index] for index in some]),
        "full": lambda: [full_forward(tree, prompt, names[index]) for index in few],
    }
    rounds = [{name: cpu_seconds(side) for name, side in sides.items()} for _ in range(RUNS)]
    least = {name: min(made[name][0] for made in rounds) for name in sides}
    results = {name: rounds[0][name][1] for name in sides}
    share = sum(len(names[index]) for index in some) / sum(map(len, names))
    loop = least["prefill"] + (least["loop"] - least["prefill"]) / share
    full = least["full"] / len(few) * len(names)
    pairs = [*zip(some, results["loop"], strict=True), *zip(few, results["full"], strict=True)]
    differences = [
        abs(results["ours"][node] - value)
        for index, values in pairs
        for node, value in zip(trie.paths[index], values, strict=True)
    ]
    return {
        "ours_seconds": least["ours"],
        "ours_default_products_seconds": least["default_products"],
        "split_attention_seconds": least["split"],
        "split_attention_difference": float(abs(results["split"] - results["ours"]).max()),
        "prefill_seconds": least["prefill"],
        "loop_seconds": loop,
        "full_seconds": full,
        "loop_scaled_from": len(some),
        "full_scaled_from": len(few),
        "loop_over_ours": loop / least["ours"],
        "loop_over_ours_default_products": loop / least["default_products"],
        "full_over_ours": full / least["ours"],
        "largest_difference": max(differences),
    }


def _with_kernel(tree: TreeForward, kernel: str, work: Callable[[], Any]) -> Any:
    """Run `work` with the attention kernel `kernel`; the slow methods use transformers' default."""
    tree.config._attn_implementation = kernel
    try:
        return work()
    finally:
        tree.config._attn_implementation = "sdpa"


def count_nodes(names: list[list[int]], steps: int = 500) -> dict[str, Any]:
    """Share of inner nodes that an exact top-1 expands, and whether it is the arg-max of the full scores."""
    seconds, peaked = cpu_seconds(lambda: train_peaked(names, steps))
    trie, scorer = peaked.trie, TreeScorer(peaked.tree)
    prompts, labels = peaked.images(IMAGES)
    inputs = DecoderInput.of(Embedded(prompts))
    with torch.inference_mode():
        log_probs = scorer.log_probs(peaked.tree.prefill(inputs, room=1), trie)
    result: dict[str, Any] = {"images": IMAGES, "inner_nodes": len(trie.inner), "training_seconds": seconds}
    for kind, rule in RULES.items():
        prior = log_probs.mean(0)
        expected = class_scores(trie, rule, log_probs, prior).argmax(1)
        with torch.inference_mode():
            found = scorer.top1(peaked.tree.prefill(inputs, room=1), trie, rule, prior)
        nodes = np.array([best.nodes_expanded for best in found])
        result[kind] = {
            "mean_nodes": float(nodes.mean()),
            "share": float(nodes.mean() / len(trie.inner)),
            "most_nodes": int(nodes.max()),
            "equal": [best.index for best in found] == expected.tolist(),
            "accuracy": float((expected == labels).mean()),
            "rounds": {name: _rounds(peaked, prompts, rule, prior, rows) for name, rows in ROUNDS.items()},
        }
    return result


def _rounds(
    peaked: ConfidentToyModel, prompts: torch.Tensor, rule: Rule, prior: Floats, rows: int
) -> dict[str, float | bool]:
    """Means over batches of `ROUND_IMAGES`: forward passes behind the prompts, and waits for the device, per batch."""
    scorer, starts, nodes = TreeScorer(peaked.tree, round_rows=rows), range(0, len(prompts), ROUND_IMAGES), 0
    for start in starts:
        batch = prompts[start : start + ROUND_IMAGES]
        prefix = peaked.tree.prefill(DecoderInput.of(Embedded(batch)), room=1)
        nodes += sum(best.nodes_expanded for best in scorer.top1(prefix, peaked.trie, rule, prior))
    return {
        "forwards": scorer.forwards / len(starts),
        "transfers": scorer.transfers / len(starts),
        "mean_nodes": nodes / len(prompts),
    }


def as_text(result: dict[str, Any]) -> str:
    """The result as a text table, with goals."""
    lines = [f"one image, {result['prefix']} tokens of prompt, 1,000 ImageNet names; CPU seconds, one thread"]
    for dtype, speed in result["speed"].items():
        lines += [
            f"  {dtype}: ours {speed['ours_seconds']:.2f} s; the prompt alone {speed['prefill_seconds']:.2f} s",
            f"    authors' loop {speed['loop_seconds']:.1f} s (scaled from {speed['loop_scaled_from']} names): "
            f"{speed['loop_over_ours']:.1f} x ours; goal {GOALS['loop']:.0f} x",
            f"    ours with the loop's matrix products {speed['ours_default_products_seconds']:.2f} s: "
            f"{speed['loop_over_ours_default_products']:.1f} x (bf16 has only one; see eval/models/cpu_matmul.py)",
            f"    one forward pass per name {speed['full_seconds']:.0f} s (scaled from {speed['full_scaled_from']} "
            f"names): {speed['full_over_ours']:.1f} x ours; goal {GOALS['full']:.0f} x",
            f"    ours with attention split into prompt and tree {speed['split_attention_seconds']:.2f} s",
            f"    largest difference of a log-probability {speed['largest_difference']:.1e}"
            f"{'; goal 1e-4' if dtype == 'fp32' else ''}",
        ]
    for classes, counts in result["tokens"].items():
        lines.append(f"  {classes}: {counts['names']} names, prefix + {counts['behind_prefix']:,} tokens forwarded")
    top1 = result["top1"]
    for kind in RULES if top1 else ():
        row, goal = top1[kind], GOALS.get(kind)
        lines.append(
            f"  top-1 by {kind}: {row['mean_nodes']:.1f} of {top1['inner_nodes']:,} nodes expanded ({row['share']:.2%}"
            f"{f', goal {goal:.0%}' if goal else ''}; most {row['most_nodes']}), "
            f"{'the same as' if row['equal'] else 'NOT'} the best of full scores on {top1['images']} images, "
            f"accuracy {row['accuracy']:.0%}"
        )
        lines += [
            f"    as on a {device.upper()}, {ROUND_IMAGES} images at a time: {rounds['forwards']:.1f} forward passes "
            f"after the prompts', {rounds['transfers']:.1f} waits for results, {rounds['mean_nodes']:.1f} nodes each"
            for device, rounds in row["rounds"].items()
        ]
    return "\n".join(lines)
