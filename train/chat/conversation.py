"""A tokenized conversation: token ids and which of them are targets; image expansion, and targets highlighted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from configs.errors import DataError
from data_prep.sample import IMAGE_PLACEHOLDER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IMAGE_INDEX = -200  # marks the image in unexpanded ids, as in LLaVA
IGNORE_INDEX = -100  # the label of an unsupervised token, as in PyTorch's cross entropy


@dataclass(slots=True)
class TokenizedConversation:
    """Token ids, one `IMAGE_INDEX` an image, and whether each is supervised. Grown by `add` only."""

    input_ids: list[int] = field(default_factory=list)
    supervised: list[bool] = field(default_factory=list)
    probe: int | None = None
    """Index of the token of a linear probe (`train.chat.probe_position`)."""

    def add(self, ids: Sequence[int], supervised: Sequence[bool]) -> None:
        """Append tokens together with their supervision."""
        assert len(ids) == len(supervised)
        self.input_ids.extend(ids)
        self.supervised.extend(supervised)

    @property
    def labels(self) -> list[int]:
        """The ids where supervised, `IGNORE_INDEX` elsewhere."""
        return [token if on else IGNORE_INDEX for token, on in zip(self.input_ids, self.supervised, strict=True)]

    @property
    def images(self) -> int:
        """Number of images the conversation refers to."""
        return self.input_ids.count(IMAGE_INDEX)


def expand_image(
    rendered: TokenizedConversation, image_ids: Sequence[int], max_length: int, remedy: str = "raise it"
) -> TokenizedConversation:
    """Replace each `IMAGE_INDEX` by `image_ids`, then cut to `max_length` tokens.

    Raises `DataError` with the `remedy` if the cut would go through an image.
    """
    expanded = TokenizedConversation()
    for token, supervised in zip(rendered.input_ids, rendered.supervised, strict=True):
        if token != IMAGE_INDEX:
            expanded.add([token], [supervised])
            continue
        expanded.add(image_ids, [False] * len(image_ids))
        if len(expanded.input_ids) > max_length:
            raise DataError(
                f"chat.max_length {max_length} cuts through the image's tokens; {remedy}: its {len(image_ids):,} "
                f"tokens end at {len(expanded.input_ids):,}"
            )
    del expanded.input_ids[max_length:], expanded.supervised[max_length:]
    return expanded


def highlight_targets(rendered: TokenizedConversation, tokenizer: "PreTrainedTokenizerBase", *, colour: bool) -> str:
    """The conversation as text, images as `<image>` (runs of them counted).

    Supervised tokens are green with `colour`, else between ⟦ and ⟧.
    """
    before, after = ("\033[32m", "\033[0m") if colour else ("⟦", "⟧")
    parts: list[str] = []
    ids, position = rendered.input_ids, 0
    while position < len(ids):
        end, on = position, rendered.supervised[position]
        image = ids[position] == IMAGE_INDEX
        while end < len(ids) and rendered.supervised[end] == on and (ids[end] == IMAGE_INDEX) == image:
            if rendered.probe in (position, end) and end > position:
                break
            end += 1
        if position == rendered.probe:
            parts.append("<probe>")
        elif image:
            parts.append(f"<image x{end - position}>" if end - position > 1 else IMAGE_PLACEHOLDER)
        else:
            text = str(tokenizer.decode(ids[position:end], skip_special_tokens=False))
            parts.append(f"{before}{text}{after}" if on else text)
        position = end
    return " ".join(parts)
