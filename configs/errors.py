"""The errors a user can cause. Each message names the value, the limit and the next step."""


class UserError(ValueError):
    """Something the user can fix: entry points print it as one line and exit with code 2."""


class ConfigError(UserError):
    """A configuration that cannot be run as written."""


class DataError(UserError):
    """Raw data or shards that are missing, damaged or inconsistent."""


class RunError(UserError):
    """A run folder, checkpoint or export that is missing, damaged or belongs to something else."""
