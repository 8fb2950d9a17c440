"""Which images of a class a source keeps: a limit, a share, or one of two parts; a hash of their ids decides."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol, TypeVar

from configs.errors import ConfigError, DataError

PARTS = ("train", "test")


class Identified(Protocol):
    """An item with an id."""

    @property
    def id(self) -> str:
        """Unique within its source."""
        ...


I = TypeVar("I", bound=Identified)  # noqa: E741 - an item


@dataclass(frozen=True, slots=True)
class Selection:
    """Options of a reader of class folders; without any, everything is kept."""

    per_class_limit: int | None = None
    imbalance: float | None = None
    part: str | None = None
    test_share: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises `ConfigError` for a value outside its limits."""
        if self.per_class_limit is not None and self.per_class_limit < 1:
            raise ConfigError(
                f"per_class_limit is {self.per_class_limit}; it must be at least 1, or null for all images"
            )
        if self.imbalance is not None and not 1 <= self.imbalance < math.inf:
            raise ConfigError(
                f"imbalance is {self.imbalance}; it is the ratio of largest to smallest class and must be at least 1"
            )
        if self.part not in (None, *PARTS):
            raise ConfigError(f"part is {self.part!r}; give train or test, or null for all images")
        if not 0 < self.test_share < 1:
            raise ConfigError(f"test_share is {self.test_share}; it is a fraction between 0 and 1, such as 0.2")

    def share_of_class(self, number: int, classes: int) -> float:
        """The fraction that class `number` (from 0) of `classes` keeps in a long tail; 1 without `imbalance`."""
        return float((self.imbalance or 1.0) ** (-number / max(1, classes - 1)))

    def of_class(self, folder: str, items: Sequence[I], share: float, is_image: Callable[[I], bool]) -> list[I]:
        """The items of a class that are kept, in their order; a limit and a share count images.

        The part comes first: a class of n images has max(1, round(test_share x n)) test images, and files that are no
        image are in the training part, whose build reports them. Raises `DataError` for a class of one image that is to
        be divided.
        """
        if self.per_class_limit is None and share == 1.0 and self.part is None:
            return list(items)
        images = [item for item in items if is_image(item)]
        reported = {item.id for item in items} - {item.id for item in images} if self.part == "train" else set()
        if self.part is not None:
            images = self._part_of(folder, images)
        count = round(share * min(self.per_class_limit or len(images), len(images)))
        chosen = {item.id for item in ranked(images, f"{self.seed}:")[:count]} | reported
        return [item for item in items if item.id in chosen]

    def _part_of(self, folder: str, images: Sequence[I]) -> list[I]:
        if len(images) == 1:
            raise DataError(
                f"the class folder {folder} has one image, which cannot be divided into a training and a test part; "
                "add another one, or remove the folder"
            )
        count = min(max(1, round(self.test_share * len(images))), len(images) - 1) if images else 0
        test = {item.id for item in ranked(images, f"part:{self.seed}:")[:count]}
        return [item for item in images if (item.id in test) == (self.part == "test")]


def ranked(items: Sequence[I], key: str) -> list[I]:
    """The items in the order of the hashes of `key` and their ids."""
    return sorted(items, key=lambda item: sha256(f"{key}{item.id}".encode()).digest())
