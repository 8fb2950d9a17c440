"""Settings of a test as overrides."""

from collections.abc import Mapping


def overrides_of(settings: Mapping[str, object]) -> list[str]:
    """`{"train__workers": 1}` as `["train.workers=1"]`, for `load_config` and after `--set`."""
    return [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]
