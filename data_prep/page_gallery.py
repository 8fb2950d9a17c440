"""A gallery of a page: small pictures with what is known of each, and filters.

    tile = Tile(jpeg, "n01440764_18", (("answer", "a fish"),), {"outcome": "wrong", "class": "tench"})
    Gallery([tile], "200 of 50,000 items")

A block of `data_prep.page`. Without JavaScript all tiles are shown, and no filters.
"""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Tile:
    """A JPEG, or none; a title; (name, text) lines; and the value that each filter compares.

    `tone` is "good", "bad" or "" (neither): the colour of the tile's edge.
    """

    jpeg: bytes | None
    title: str
    lines: Sequence[tuple[str, str]]
    tags: Mapping[str, str] = field(default_factory=dict)
    tone: str = ""

    @property
    def data_uri(self) -> str:
        """The picture as the source of an <img>."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg or b'').decode()}"


@dataclass(frozen=True, slots=True)
class Gallery:
    """Tiles, and a caption that says how they were chosen."""

    kind: ClassVar[str] = "gallery"
    tiles: Sequence[Tile]
    caption: str

    @property
    def filters(self) -> dict[str, list[tuple[str, int]]]:
        """Filter's name to its (value, number of tiles), sorted by value; only those that have a choice.

        >>> Gallery([Tile(None, "a", (), {"class": "cat"}), Tile(None, "b", (), {"class": "dog"})], "").filters
        {'class': [('cat', 1), ('dog', 1)]}
        """
        names = dict.fromkeys(name for tile in self.tiles for name in tile.tags)
        counts = {name: Counter(tile.tags[name] for tile in self.tiles if tile.tags.get(name)) for name in names}
        return {name: sorted(found.items()) for name, found in counts.items() if len(found) > 1}
