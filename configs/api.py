"""Settings of requests to a model served by an API."""

from dataclasses import dataclass

from configs.api_providers import PLAIN, PROVIDERS
from configs.errors import ConfigError
from configs.section import Section, setting


@dataclass(frozen=True, kw_only=True)
class ApiConfig(Section):
    """A model served by an OpenAI-compatible API (`model: api:NAME`). URL and key come from the environment alone."""

    provider: str = setting(
        PLAIN,
        doc="Sets address, key and settings of this section as the provider needs them; `plain`: any other server.",
        choices=tuple(PROVIDERS),
        changes_result=False,
    )
    url_env: str = setting(
        "OPENAI_BASE_URL",
        doc="Environment variable with the URL, such as https://host/v1; unset: the provider's.",
        changes_result=False,
    )
    key_env: str = setting("OPENAI_API_KEY", doc="Environment variable with the key.", changes_result=False)
    concurrency: int = setting(8, doc="Concurrent requests.", at_least=1, changes_result=False)
    timeout: float = setting(120.0, doc="Seconds before a request times out.", above=0, changes_result=False)
    attempts: int = setting(6, doc="Attempts per question before it fails.", at_least=1, changes_result=False)
    backoff: float = setting(
        1.0,
        doc="Seconds before the second attempt, doubled each time up to 60; a server's Retry-After takes precedence.",
        at_least=0,
        changes_result=False,
    )
    give_up_after: int = setting(
        20, doc="Consecutive failed questions after which the program stops.", at_least=1, changes_result=False
    )
    temperature: float | None = setting(0.0, doc="Sampling temperature; null leaves it to the server.", at_least=0)
    answer_limit: str = setting(
        "protocol",
        doc="Longest answer of an evaluation: protocol.max_new_tokens, or `official`, as in the authors' calls: 1,024 "
        "tokens of a Claude, no limit of other models. Captions, built questions and judges have their own limits.",
        choices=("protocol", "official"),
    )
    length_field: str = setting(
        "max_tokens",
        doc="Request field that carries the limit; newer models accept only max_completion_tokens. `none`: no limit.",
        choices=("max_tokens", "max_completion_tokens", "none"),
    )
    image_position: str = setting(
        "after",
        doc="The image is sent `after` the question's text or `before` it; `official`, as in the authors' calls: "
        "before it to a Claude, after it to others.",
        choices=("after", "before", "official"),
    )
    image_detail: str | None = setting(None, doc="`detail` of an image, where the server knows it: low, high, auto.")
    image_side: int | None = setting(
        None,
        doc="Images whose longer side has more pixels are shrunk to it before they are sent; null: as stored.",
        at_least=1,
        changes_result=lambda api: api.image_side is not None,
    )
    system_role: str = setting(
        "system",
        doc="Role of the message with a system prompt; `user`: its text begins the first question.",
        choices=("system", "developer", "user"),
        changes_result=lambda api: api.system_role != "system",
    )
    reasoning_effort: str | None = setting(
        None,
        doc="Field `reasoning_effort` of a request to a model that reasons: none, minimal, low, medium or high, as the "
        "model knows them; null: not sent. The limit of tokens holds for reasoning and answer together.",
        changes_result=lambda api: api.reasoning_effort is not None,
    )
    price_in: float | None = setting(
        None, doc="Price of a million tokens of questions, in any currency.", at_least=0, changes_result=False
    )
    price_out: float | None = setting(
        None, doc="Price of a million tokens of answers, in the same currency.", at_least=0, changes_result=False
    )
    image_tokens: int | None = setting(
        None,
        doc="The most tokens that the server counts for an image; needed to print "
        "the largest cost of questions with images.",
        at_least=0,
        changes_result=False,
    )

    def __post_init__(self) -> None:
        """Raise `ConfigError` for a temperature that the provider does not have."""
        super().__post_init__()
        highest = PROVIDERS[self.provider].highest_temperature
        if highest is not None and self.temperature is not None and self.temperature > highest:
            raise ConfigError(f"temperature is {self.temperature}; for {self.provider} it must be at most {highest}")


def refuse_answer_limit(api: ApiConfig, limit: str) -> None:
    """Raise `ConfigError` for an answer limit where the setting `limit` says how long a reply may be."""
    if api.answer_limit != "protocol":
        raise ConfigError(
            f"api.answer_limit is {api.answer_limit!r}, which only evaluations have; remove it, as {limit} is the "
            "longest reply here"
        )
