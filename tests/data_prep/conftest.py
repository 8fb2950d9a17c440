"""Small pictures and folders that several tests of data_prep build from."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import build
from data_prep.shards import ShardSet

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def picture(seed: int = 0, size: tuple[int, int] = (24, 16), mode: str = "RGB", kind: str = "JPEG", **options) -> bytes:
    """A picture of random blocks, encoded."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize(size, Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.fixture(name="picture")
def picture_fixture() -> Callable[..., bytes]:
    return picture


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """Two classes, cat and wild_dog, of six JPEGs each."""
    root = tmp_path / "raw"
    for label, name in enumerate(("cat", "wild_dog")):
        (root / name).mkdir(parents=True)
        for number in range(6):
            (root / name / f"{number}.jpg").write_bytes(picture(10 * label + number))
    return root


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run config with one source `pets`; keyword arguments become settings of `data`."""

    def write(path: Path | None, reader: str = "image_folder", options: str = "{}", **data: object) -> Path:
        settings = {"shards": tmp_path / "shards", "samples_per_shard": 5} | data
        lines = ["name: test", "model: {base: none}", "train: {sources: [pets]}", "data:"]
        lines += [f"  {key}: {value}" for key, value in settings.items()]
        where = f"path: {path}, " if path else ""
        lines += ["  sources:", f"    pets: {{{where}reader: {reader}, options: {options}}}"]
        file = tmp_path / "config.yaml"
        file.write_text("\n".join(lines) + "\n")
        return file

    return write


@pytest.fixture
def built(class_folders: Path, write_config: Callable[..., Path], tmp_path: Path) -> ShardSet:
    """The class folders as a shard set of three shards with 5, 5 and 2 samples."""
    build.main(["--config", str(write_config(class_folders))])
    return ShardSet.open(tmp_path / "shards" / "pets")


@pytest.fixture
def shared_data() -> Path:
    """Real data sets kept beside the checkout; the test is skipped where they are not."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder ../shared/data with real images and lists is not there")
    return SHARED_DATA
