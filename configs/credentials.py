"""Secrets do not belong in a config, which is saved with every run and sent to W&B; a command line is shown by `ps`.

Keys come from the environment (WANDB_API_KEY, HF_TOKEN, AWS_...) or from the files of the programs that use them. A
setting that looks like a secret is refused before anything is written, and its value is never printed.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.errors import ConfigError

NAME = re.compile(
    r"(?:^|[._-])(?:(?:api|access|secret|private|auth|wandb)[._-]?key|(?:api|access|auth|hf)[._-]?token|token"
    r"|secrets?|passwords?|passwd|credentials?)$",
    re.IGNORECASE,
)
FORMS = {
    "a user or password in a URL": re.compile(r"\w://[^/\s]*@"),
    "a key in a URL's query": re.compile(
        r"[?&][\w-]*(?:token|signature|secret|password|credential|api_?key|\bsig)[\w-]*=[^&\s]", re.IGNORECASE
    ),
    "a key set in a shell line": re.compile(r"(?:^|[\s_;])(?:\w*_)?(?:KEY|TOKEN|SECRET|PASSWORD)=[\"']?[^\s\"'$`]"),
    "a token of the model hub": re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
}


def has_wandb_key() -> bool:
    """Whether Weights & Biases finds a key: in WANDB_API_KEY, or in the file that `wandb login` writes."""
    return bool(os.environ.get("WANDB_API_KEY")) or Path("~/.netrc").expanduser().is_file()


def refuse_secrets(values: Mapping[str, Any], origin: str) -> None:
    """Raise `ConfigError` for a secret among `{dotted key: value}`; it names the setting, never the value.

    >>> refuse_secrets({"data.shards": "s3://bucket/shards", "slurm.setup": ["export OMP_NUM_THREADS=4"]}, "a.yaml")
    """
    for key, value in values.items():
        found = "its name" if NAME.search(key) and isinstance(value, str) and value else _form(value)
        if found:
            raise ConfigError(
                f"{origin}: {key} looks like a secret ({found}), and configs are saved and shown; give it in the "
                "environment or in a file of the program that needs it"
            )


def without_secrets(value: Any) -> Any:
    """A value, or one inside mappings and lists, without the entries that look like a secret.

    >>> without_secrets({"base": "a", "options": {"api_key": "x", "urls": ["s3://key:x@bucket/a", "s3://bucket/b"]}})
    {'base': 'a', 'options': {'urls': ['s3://bucket/b']}}
    """
    if isinstance(value, Mapping):
        return {
            key: without_secrets(one)
            for key, one in value.items()
            if not (isinstance(one, str) and one and (NAME.search(str(key)) or _form(one)))
        }
    if isinstance(value, list | tuple):
        return [without_secrets(one) for one in value if not (isinstance(one, str) and _form(one))]
    return value


def _form(value: Any) -> str | None:
    """What makes a value, or one in a list or mapping, a secret."""
    if isinstance(value, str):
        return next((what for what, form in FORMS.items() if form.search(value)), None)
    if isinstance(value, Mapping):
        return next((what for one in value.values() if (what := _form(one))), None)
    if isinstance(value, list | tuple):
        return next((what for one in value if (what := _form(one))), None)
    return None
