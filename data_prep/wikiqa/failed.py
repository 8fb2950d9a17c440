"""Questions to an API that have no reply: the construction stops, since the result would lack them."""

from collections.abc import Mapping

from configs.errors import RunError


def refuse_failures(failures: Mapping[str, str], what: str, skip: bool) -> None:
    """Raise `RunError` that names the first question without a reply, unless they are to be skipped."""
    if not failures or skip:
        return
    first, reason = next(iter(sorted(failures.items())))
    raise RunError(
        f"{what} without a reply: {len(failures):,} (the first: {first}: {reason}); the same command asks them again, "
        "--skip-failed leaves them out of the result"
    )
