"""The classes of a linear probe that is trained with the model: those of all sources, each name once."""

from collections.abc import Sequence
from dataclasses import dataclass

from configs.errors import ConfigError
from train.data.sources import SourceSet


@dataclass(frozen=True)
class ProbeClasses:
    """`names` of the head's outputs; `numbers` has, for each source, the output of each class in its list."""

    names: tuple[str, ...]
    numbers: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, sources: SourceSet) -> "ProbeClasses":
        """The classes of the sources that have an image with a class. Raises `ConfigError` if none has."""
        usable = (sources.labels() >= 0) & sources.with_image()
        lists: list[Sequence[str]] = [
            names if usable[int(start) : int(start) + size].any() else ()
            for names, start, size in zip(sources.class_names(), sources.starts, sources.sizes, strict=False)
        ]
        names = tuple(dict.fromkeys(name for some in lists for name in some))
        if not names:
            raise ConfigError(
                f"loss.probe is above 0 and no sample of {', '.join(sources.names)} has both an image and a class; add "
                "a source with classes, or set loss.probe to 0"
            )
        number = {name: index for index, name in enumerate(names)}
        return cls(names, tuple(tuple(number[name] for name in some) for some in lists))

    def number(self, source: int, label: int | None) -> int:
        """The output of class `label` of a source; -1 without one."""
        return -1 if label is None or label < 0 else self.numbers[source][label]
