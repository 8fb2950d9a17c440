"""The errors a user can cause, each naming the value, the limit and the next step; and any error in one line."""

BUILD_SHARDS = "python -m data_prep.build --config FILE"
"""In messages that do not know the config; a program with a config prints its file and settings in place of FILE."""


class UserError(ValueError):
    """Something the user can fix: entry points print it as one line and exit with code 2."""


class ConfigError(UserError):
    """A configuration that cannot be run as written."""


class DataError(UserError):
    """Raw data or shards that are missing, damaged or inconsistent."""


class RunError(UserError):
    """A run folder, checkpoint or export that is missing, damaged or belongs to something else."""


def first_line(error: BaseException) -> str:
    r"""What `error` says, in one line: with the next one after a colon; its kind if it says nothing.

    >>> first_line(ValueError("sizes differ:\n  3 and 4"))
    'sizes differ: 3 and 4'
    """
    return _said(error) or type(error).__name__


def kind_and_line(error: BaseException) -> str:
    """As `first_line`, after the kind of `error`: for errors that may be of any kind."""
    return ": ".join(filter(None, (type(error).__name__, _said(error))))


def _said(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
