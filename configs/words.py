"""Numbers of things in sentences."""


def counted(number: int, thing: str) -> str:
    """A number with its noun, in the plural unless there is one.

    >>> counted(1, "shard"), counted(1200, "class"), counted(0, "entry")
    ('1 shard', '1,200 classes', '0 entries')
    """
    if number == 1:
        return f"1 {thing}"
    if thing.endswith(("s", "x", "ch", "sh")):
        return f"{number:,} {thing}es"
    if thing.endswith("y") and thing[-2] not in "aeiou":
        return f"{number:,} {thing[:-1]}ies"
    return f"{number:,} {thing}s"
