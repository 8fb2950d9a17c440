"""The form of a difference between the paper and its released code."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between paper and code; `settings` choose between both, or `reason` says why there is no setting.

    `description` says what the code does, `paper` what the paper does or leaves open, `default` what happens here
    unless another choice is made.
    """

    number: str
    description: str
    settings: tuple[str, ...] = ()
    reason: str = ""
    paper: str = ""
    default: str = ""
