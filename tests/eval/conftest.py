"""A tiny random model and a small shard set that several tests of eval ask."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.shapes import write_random_base

WORDS = (
    "What type of object is in this photo the Identify image A B C D answer Choose or , Let ' s think step by "
    "tench wild dog cat red moss bark ( )"
).split()


def picture(seed: int = 0, size: tuple[int, int] = (40, 24)) -> bytes:
    """A JPEG of random blocks."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize(size, Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG")
    return buffer.getvalue()


@pytest.fixture(name="picture")
def picture_fixture() -> Callable[..., bytes]:
    return picture


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights."""
    return write_random_base(tmp_path_factory.mktemp("models") / "tiny", "tiny", WORDS)
