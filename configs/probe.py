"""Settings of linear probes: features, epochs, and which epoch counts."""

import re
from dataclasses import dataclass

from configs.errors import ConfigError
from configs.section import Section, setting

PAPER_EPOCHS = 500  # Appendix B.4
TABLE_3 = ("-1", "mean")
TABLE_10 = ("0", "100", "200", "300", "400", "500", "600", "-3", "-2", *TABLE_3)
"""Token positions of the heads of these tables."""


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(Section):
    """Linear heads on frozen features (`eval.probing`)."""

    part: str = setting(
        "auto",
        doc="Features: the last layer of the `language_model`, or the image `encoder`; auto: a CLIP's "
        "encoder, the language model of all others.",
        choices=("auto", "language_model", "encoder"),
    )
    token_positions: tuple[str, ...] = setting(
        TABLE_3,
        doc="Positions of the question's tokens whose hidden states are stored and get a head each, counted from 0, or "
        "from the end as -1; `mean` over all. Default: Table 3's (Table 10's: configs/eval/reproduce/flowers102.yaml).",
    )
    epochs: int = setting(
        PAPER_EPOCHS, doc="Passes over the training items (paper: 500 for every data set).", at_least=1
    )
    official_epochs: int | None = setting(
        None, doc="Epochs in the authors' scripts, where they are not the paper's 500 (ImageNet: 100).", at_least=1
    )
    schedule: str = setting(
        "paper",
        doc="`official` trains official_epochs where `epochs` is left at 500; `paper` trains `epochs`.",
        choices=("paper", "official"),
    )
    encoder_epochs: int = setting(
        300, doc="As epochs, of heads on an image encoder (paper: 300, ImageNet 40).", at_least=1
    )
    batch_size: int = setting(512, doc="Training items per step (paper: 512).", at_least=1)
    learning_rate: float = setting(1e-3, doc="Learning rate of Adam, without decay (paper: 1e-3).", above=0)
    shuffle: str = setting(
        "once",
        doc="Order of the training items: shuffled `once` for all epochs, in `every_epoch`, or `official`: authors' "
        "code, every epoch for heads on an image encoder, once for those on a language model.",
        choices=("once", "every_epoch", "official"),
    )
    choose_epoch: str = setting(
        "held_out",
        doc="The epoch whose head is selected: best on a `held_out` share of the training items; `best_on_test`: on "
        "the test items themselves (paper, authors' code), and every report says so; or the `last`.",
        choices=("held_out", "best_on_test", "last"),
    )
    held_out: float = setting(
        0.1, doc="Share of the training items that choose_epoch held_out keeps from training.", above=0, at_most=0.9
    )
    seed: int = setting(
        0, doc="Seed of the heads' initial weights, the items' order and the held-out items.", at_least=0
    )
    precision: str = setting(
        "auto",
        doc="Of the matrix products; weights and moments are fp32 (authors' code: fp32). `auto`: bf16 where the "
        "hardware multiplies it, else fp32: 1.7 times as fast, accuracies within 0.2 points (2,000 test items).",
        choices=("fp32", "bf16", "auto"),
    )
    memory_gib: float = setting(
        8.0,
        doc="GiB of memory for the features; what does not fit is read from disk in every epoch.",
        above=0,
        changes_result=False,
    )

    def language_model_epochs(self) -> int:
        """Epochs of heads on a language model: `epochs`, or `official_epochs` by the official schedule.

        >>> ProbeConfig(official_epochs=100, schedule="official").language_model_epochs()
        100
        """
        chosen = self.official_epochs if self.schedule == "official" and self.epochs == PAPER_EPOCHS else None
        return self.epochs if chosen is None else chosen

    def __post_init__(self) -> None:
        """Raise `ConfigError` for an invalid or repeated position."""
        super().__post_init__()
        for position in self.token_positions:
            if position != "mean" and not re.fullmatch(r"0|-?[1-9]\d*", position):
                raise ConfigError(f"token_positions has {position!r}; give a token's index, such as 0 or -1, or mean")
        if not self.token_positions or len(set(self.token_positions)) < len(self.token_positions):
            raise ConfigError(f"token_positions is {list(self.token_positions)}; give at least one, each once")
