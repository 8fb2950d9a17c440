"""Time of greedy decoding with rows that leave and enter, next to transformers' `generate`."""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from configs.command_line import emit_json
from eval.models import cpu_matmul
from eval.models.decoder_input import DecoderInput
from eval.models.greedy import Greedy, LanguageModel, Stop
from train.models.embedded import Embedded

SYSTEM, IMAGE, QUESTION = 35, 576, 17  # tokens
IMAGE_TOKEN = 31999
END = 2
ANSWERS = {"names": (3, 7), "open": (5, 35)}  # shortest and longest answer, in tokens; the mean lies between
GOAL = 0.80
SHAPES = {"hidden-512": (512, 1376, 8, 8), "llava-1.5-7b": (4096, 11008, 32, 32)}  # hidden, MLP, layers, heads


def measure_and_print(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    result = benchmark(arguments)
    if not emit_json(arguments.json, result):
        print(as_text(result))


def benchmark(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both kinds of answers with both methods."""
    model = random_model(arguments)
    questions = _questions(model, arguments)
    kinds = {kind: _compare(model, questions, kind, arguments) for kind in ANSWERS}
    return {
        "device": arguments.device,
        "shape": arguments.shape,
        "batch": arguments.batch,
        "prompt": questions[1].shape[1],
        **kinds,
    }


def random_model(arguments: argparse.Namespace) -> LlamaForCausalLM:
    """A language model of the shape, fp32 on a CPU and bf16 on a GPU."""
    hidden, wide, layers, heads = SHAPES[arguments.shape]
    config = LlamaConfig(
        hidden_size=arguments.hidden or hidden,
        intermediate_size=int((arguments.hidden or hidden) * wide / hidden),
        num_hidden_layers=arguments.layers or layers,
        num_attention_heads=heads,
        vocab_size=32000,
        max_position_embeddings=4096,
        eos_token_id=END,
        pad_token_id=END,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    with torch.device(arguments.device):
        dtype = torch.float32 if arguments.device == "cpu" else torch.bfloat16
        model: LlamaForCausalLM = LlamaForCausalLM._from_config(config, dtype=dtype)
    return model.eval()


@torch.inference_mode()
def _questions(model: LlamaForCausalLM, arguments: argparse.Namespace) -> tuple[list[list[int]], torch.Tensor]:
    """Ids of each row and their embeddings (B, T, H): the same system prompt and a different image in each row."""
    drawn = torch.Generator().manual_seed(1)

    def words(count: int) -> list[int]:
        return [int(token) for token in torch.randint(10, 31000, (count,), generator=drawn)]

    system, images = words(SYSTEM), arguments.image_tokens
    ids = [[*system, *[IMAGE_TOKEN] * images, *words(QUESTION)] for _ in range(arguments.batch)]
    embeddings = model.get_input_embeddings()(torch.tensor(ids, device=arguments.device))
    features = torch.randn(arguments.batch, images, embeddings.shape[2], generator=drawn) * 0.02
    embeddings[:, SYSTEM : SYSTEM + images] = features.to(embeddings)
    return ids, embeddings


def _compare(
    model: LlamaForCausalLM, questions: tuple[list[list[int]], torch.Tensor], kind: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Seconds of both methods, and whether their tokens are equal."""
    lengths = _lengths(kind, arguments.batch)
    _end_at(model, questions, lengths)
    ids, embeddings = questions
    inputs = DecoderInput.of(Embedded(embeddings))
    made: list[Greedy] = []

    def ours(limit: int = 64) -> list[list[int]]:
        made.append(_greedy(model))
        return [row or [] for row in made[-1].answers(ids, inputs, Stop(frozenset({END}), limit))]

    def plain() -> list[list[int]]:
        with cpu_matmul.default_products():
            return ours()

    def theirs() -> list[list[int]]:
        with torch.inference_mode():
            said = model.generate(
                inputs_embeds=embeddings, attention_mask=inputs.mask, do_sample=False, max_new_tokens=64
            )
        return [row[:length] for row, length in zip(said.tolist(), lengths, strict=True)]

    sides: dict[str, Callable[[], list[list[int]]]] = {"ours": ours, "theirs": theirs}
    if arguments.device == "cpu" and cpu_matmul.onednn_is_faster():
        sides["ours_default_products"] = plain
    sides |= {"ours_prompt": lambda: ours(1)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    said = {name: side() for name, side in sides.items()}  # the first call includes the choice of kernels
    row_steps = made[0].row_steps
    for _ in range(arguments.runs):
        for name, side in sides.items():
            seconds[name].append(_seconds(side, arguments.device))
    least = {f"{name}_seconds": min(values) for name, values in seconds.items()}
    return least | {
        "ratio": least["ours_seconds"] / least["theirs_seconds"],
        "ratio_default_products": least.get("ours_default_products_seconds", least["ours_seconds"])
        / least["theirs_seconds"],
        "same_tokens": said["ours"] == said["theirs"],
        "lengths_as_planned": list(map(len, said["ours"])) == lengths,
        "mean_tokens": sum(lengths) / len(lengths),
        "row_steps": row_steps,
        "row_steps_needed": sum(lengths) - len(lengths),
        "images_per_second": arguments.batch / least["ours_seconds"],
    }


def _lengths(kind: str, batch: int) -> list[int]:
    """Tokens of each answer, evenly between the kind's shortest and longest, in random order."""
    shortest, longest = ANSWERS[kind]
    even = [shortest + round(row * (longest - shortest) / max(1, batch - 1)) for row in range(batch)]
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(2)).tolist()
    return [even[row] for row in order]


def _greedy(model: LlamaForCausalLM) -> Greedy:
    parts = LanguageModel(model.model, model.lm_head, model.model.embed_tokens, model.config)
    return Greedy(parts, IMAGE_TOKEN)


@torch.inference_mode()
def _end_at(model: LlamaForCausalLM, questions: tuple[list[list[int]], torch.Tensor], lengths: list[int]) -> None:
    """Set the end token's row of the head so that answer r of the batch ends with its `lengths[r]`-th token.

    The row is a least-squares solution: far above all logits at the last step, far below them before.
    """
    ids, embeddings = questions
    recording = _RecordingHead(model.lm_head)
    weight = model.lm_head.weight
    weight[END] = 0
    greedy = Greedy(LanguageModel(model.model, recording, model.model.embed_tokens, model.config), IMAGE_TOKEN)
    greedy.answers(ids, DecoderInput.of(Embedded(embeddings)), Stop(frozenset(), max(lengths)))
    states = torch.stack(recording.states, 1).float()  # (B, steps, H)
    wanted = [(row, step, step == length - 1) for row, length in enumerate(lengths) for step in range(length)]
    rows = torch.stack([states[row, step] for row, step, _ in wanted])
    size = 3 * float((states[:, 0] @ weight.float().T).abs().max())
    target = torch.tensor([[size if last else -size] for *_, last in wanted], device=rows.device)
    weight[END] = torch.linalg.lstsq(rows.cpu(), target.cpu()).solution[:, 0].to(weight)


class _RecordingHead(torch.nn.Module):
    """A head that stores its inputs."""

    def __init__(self, head: torch.nn.Module):
        super().__init__()
        self.head = head
        self.states: list[torch.Tensor] = []

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        self.states.append(states)
        logits: torch.Tensor = self.head(states)
        return logits


def _seconds(side: Callable[[], Any], device: str) -> float:
    if device == "cpu":
        start = time.process_time()
        side()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    side()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def as_text(result: dict[str, Any]) -> str:
    """The result as text, two lines for each kind of answers."""
    unit = "CPU s, one thread" if result["device"] == "cpu" else "s on the GPU"
    lines = [f"{result['batch']} questions of {result['prompt']} tokens, {result['shape']}; {unit}"]
    for kind in ANSWERS:
        row = result[kind]
        same = "the same tokens" if row["same_tokens"] else "OTHER TOKENS"
        goal = f", goal {GOAL:.2f}" if kind == "open" else ""
        lines += [
            f"  {kind}, {row['mean_tokens']:.0f} tokens in the mean: ours {row['ours_seconds']:.2f}, transformers "
            f"{row['theirs_seconds']:.2f}: {row['ratio']:.2f} of the time{goal}; {same}",
            f"    with the same matrix products {row['ratio_default_products']:.2f}; ours without decoding "
            f"{row['ours_prompt_seconds']:.2f}; {row['row_steps']} row-steps, {row['row_steps_needed']} needed; "
            f"{row['images_per_second']:.1f} images/s",
        ]
    return "\n".join(lines)
