"""Providers of models behind OpenAI-type endpoints: `api.provider: NAME` sets what differs between them.

    api: {provider: claude}              the address, the variable of the key, and settings of the section `api`
    --set api.image_position=after       overrides a setting of the provider, as the file's own `api:` does

Sources, read in November 2026: OpenAI's reference of chat completions (`max_tokens` is deprecated, and refused by
reasoning models); Google's page "OpenAI compatibility" of the Gemini API; Anthropic's pages "OpenAI SDK compatibility"
(temperature up to 1, `detail` and unknown fields ignored, system messages joined at the beginning) and "Vision" (images
before text; an edge above 1,568 pixels is scaled down, above 8,000 refused).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from configs.errors import ConfigError
from configs.layers import Layer, mapping_at

PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Provider:
    """The address that holds unless `api.url_env` names another, and the settings of `api` that differ from `plain`."""

    url: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    highest_temperature: float | None = None


PROVIDERS: Mapping[str, Provider] = {
    PLAIN: Provider(),
    "openai": Provider(
        "https://api.openai.com/v1",
        {"length_field": "max_completion_tokens"},
        highest_temperature=2.0,
    ),
    "gemini": Provider(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        {"url_env": "GEMINI_BASE_URL", "key_env": "GEMINI_API_KEY", "image_position": "before"},
        highest_temperature=2.0,
    ),
    "claude": Provider(
        "https://api.anthropic.com/v1",
        {
            "url_env": "ANTHROPIC_BASE_URL",
            "key_env": "ANTHROPIC_API_KEY",
            "image_position": "before",
            "image_side": 1568,
        },
        highest_temperature=1.0,
    ),
}


def provider_layers(layers: Sequence[Layer], section: Sequence[str] = ("api",)) -> list[Layer]:
    """The settings of the provider that the last of `layers` names, as a layer that goes before all of them.

    `section` is the path of the section of requests, such as ("grading", "api"). Raises `ConfigError` for an unknown
    provider.
    """
    named = [
        (origin, found["provider"])
        for origin, values in layers
        if "provider" in (found := mapping_at(values, *section))
    ]
    if not named:
        return []
    origin, name = named[-1]
    if not isinstance(name, str) or name not in PROVIDERS:
        dotted = ".".join((*section, "provider"))
        raise ConfigError(f"{origin}: {dotted} is {name!r}; choose one of: {', '.join(PROVIDERS)}")
    settings: dict[str, Any] = dict(PROVIDERS[name].settings)
    if not settings:
        return []
    for part in reversed(section):
        settings = {part: settings}
    return [(f"provider {name}", settings)]
