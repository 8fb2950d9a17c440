"""Numbers of bytes in words."""

from configs.words import counted


def size(count: int) -> str:
    """A number of bytes in its largest unit.

    >>> size(1000), size(90_112), size(115 * 2**30)
    ('1,000 bytes', '88.0 KiB', '115.0 GiB')
    """
    units = [(2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")]
    return next((f"{count / unit:,.1f} {name}" for unit, name in units if count >= unit), counted(count, "byte"))


def gib_size(gib: float) -> str:
    """A number of GiB in the unit that suits it.

    >>> gib_size(13.2), gib_size(0.00527)
    ('13.2 GiB', '5.4 MiB')
    """
    return size(round(gib * 2**30))
