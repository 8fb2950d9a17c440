"""Images a second from JPEG to pixels, next to transformers' image processors."""

import argparse
import tarfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from configs.command_line import emit_json, exit_on_user_error
from configs.errors import DataError, UserError
from data_prep.benchmarks.timing import best_cpu_seconds, made_jpeg
from data_prep.images import decode_rgb, true_extension
from train.models.pixels import PixelProcessor

GOALS = {"exact": 1.7, "fast": 2.5}
TOLERANCE = {"exact": 0, "fast": 2}  # of 255


def measure_and_print(arguments: argparse.Namespace) -> None:
    """Print images a second of each side, the ratios and the largest difference; exit with 1 below a goal."""
    try:
        images = load_images(arguments.images, arguments.count)
    except UserError as error:
        exit_on_user_error(error)
    figures = compare(images, arguments.size, arguments.rounds)
    if not emit_json(arguments.json, figures):
        print(_table(figures, len(images)))
    raise SystemExit(0 if all(figures[f"{name}_ratio"] >= goal for name, goal in GOALS.items()) else 1)


def compare(images: Sequence[bytes], size: int, rounds: int) -> dict[str, float]:
    """Images a CPU second of each side, the ratios to `transformers`, and the largest difference from it.

    Raises `AssertionError` if a mode is not as exact as it promises.
    """
    torch.set_num_threads(1)
    sides: dict[str, Callable[[bytes], np.ndarray]] = {
        "transformers": partial(_transformers, _llava_processor(size)),
        "llava": partial(_llava, _clip_processor(size), PixelProcessor(size)),
        "exact": partial(_ours, PixelProcessor(size)),
        "fast": partial(_ours, PixelProcessor(size, fast=True)),
    }
    seconds = best_cpu_seconds({name: partial(_all, side, images) for name, side in sides.items()}, rounds)
    figures = {f"{name}_images_per_second": len(images) / seconds[name] for name in sides}
    for name in GOALS:
        figures[f"{name}_ratio"] = seconds["transformers"] / seconds[name]
        figures[f"{name}_ratio_to_llava"] = seconds["llava"] / seconds[name]
        figures[f"{name}_largest_difference"] = difference = largest_difference(images, sides[name], size)
        assert difference <= TOLERANCE[name], f"mode {name} is {difference} of 255 off; it promises {TOLERANCE[name]}"
    return figures


def largest_difference(images: Sequence[bytes], ours: Callable[[bytes], np.ndarray], size: int) -> int:
    """The largest difference of any value of any image from transformers' uint8 pixels."""
    processor = _llava_processor(size)
    raw = {"do_rescale": False, "do_normalize": False, "return_tensors": "np"}
    return max(
        int(np.abs(ours(data).astype(int) - processor(_opened(data), **raw)["pixel_values"][0]).max())
        for data in images
    )


def load_images(path: Path | None, count: int) -> list[bytes]:
    """The first `count` JPEGs below a folder or in a tar, or as many made pictures. Raises `DataError` if none."""
    if path is None:
        return [made_jpeg(seed) for seed in range(count)]
    if path.is_file():
        with tarfile.open(path) as tar:
            found: Iterable[bytes] = (file.read() for member in tar if (file := tar.extractfile(member)) is not None)
            images = _jpegs(found, count)
    else:
        images = _jpegs((file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()), count)
    if not images:
        raise DataError(f"{path} has no JPEG; give --images a folder or a tar of photographs")
    return images


def _jpegs(files: Iterable[bytes], count: int) -> list[bytes]:
    images: list[bytes] = []
    for data in files:
        if len(images) == count:
            break
        if data.startswith(b"\xff\xd8\xff") and true_extension(data) == "jpg":
            images.append(data)
    return images


def _all(side: Callable[[bytes], np.ndarray], images: Sequence[bytes]) -> None:
    for data in images:
        side(data)


def _opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data)).convert("RGB")


def _ours(processor: PixelProcessor, data: bytes) -> np.ndarray:
    return processor(decode_rgb(data))


def _transformers(processor: LlavaImageProcessorPil, data: bytes) -> np.ndarray:
    pixels: np.ndarray = processor(_opened(data), return_tensors="np")["pixel_values"][0]
    return pixels


def _llava(processor: CLIPImageProcessorPil, colours: PixelProcessor, data: bytes) -> np.ndarray:
    image = _opened(data)
    side = max(image.size)
    square = Image.new("RGB", (side, side), colours.background)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    pixels: np.ndarray = processor(square, return_tensors="np")["pixel_values"][0]
    return pixels


def _sizes(size: int) -> dict[str, dict[str, int]]:
    return {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}


def _llava_processor(size: int) -> LlavaImageProcessorPil:
    return LlavaImageProcessorPil(do_pad=True, **_sizes(size))


def _clip_processor(size: int) -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(**_sizes(size))


def _table(figures: dict[str, float], count: int) -> str:
    lines = [f"{count} JPEGs to padded squares, one core, CPU seconds, best round"]
    lines += [
        f"{name:14}{figures[f'{name}_images_per_second']:8.0f} images/s"
        for name in ("transformers", "llava", "exact", "fast")
    ]
    lines += [
        f"{name}: {figures[f'{name}_ratio']:.2f}x transformers (goal {goal}x), {figures[f'{name}_ratio_to_llava']:.2f}x"
        f" LLaVA's path, at most {figures[f'{name}_largest_difference']:.0f} of 255 off"
        for name, goal in GOALS.items()
    ]
    return "\n".join(lines)
