"""What a build says about images that it keeps but that are not shown as stored: kinds with counts and examples.

12 x EXIF orientation other than normal, not applied (cat/a, cat/b, cat/c, ...)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from PIL import Image

from data_prep.images import jpeg_header, opened_image, white_of
from data_prep.orientation import NORMAL, UprightImage, orientation_of

EXAMPLES = 1000  # ids of each kind that are kept
SPECIAL_TOKENS = "<s> or </s> in a text, refused by training or skipped (train.unreadable)"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Note:
    """How many samples of one kind there are, and the ids of the first `EXAMPLES`."""

    count: int
    ids: tuple[str, ...]


Notes = Mapping[str, Note]


def image_notes(data: bytes, *, decoded: bool) -> tuple[str, ...]:
    """The kinds of an image that is known to decode; those that need its pixels only if `decoded`."""
    header = jpeg_header(data)
    if header is not None and data.find(b"Exif\0\0", 0, header[2]) < 0:
        return ()  # an ordinary JPEG, of one or three components
    kinds = []
    with opened_image(data) as image:
        if orientation_of(image) != NORMAL:
            done = "applied" if isinstance(data, UprightImage) else "not applied"
            kinds.append(f"EXIF orientation other than normal, {done}")
        if image.mode == "CMYK":
            kinds.append("CMYK, converted to RGB without a colour profile")
        if image.format != "JPEG" and getattr(image, "n_frames", 1) > 1:
            kinds.append("several frames, the first is used")
        if decoded and _is_transparent(image):
            kinds.append("transparency, dropped")
        if image.mode.startswith("I"):
            kinds += _deep_grey(image, decoded=decoded)
    return tuple(kinds)


def _is_transparent(image: Image.Image) -> bool:
    if image.mode not in ("RGBA", "LA", "PA", "La", "RGBa") and "transparency" not in image.info:
        return False
    low, _ = image.convert("RGBA").getchannel("A").getextrema()
    return isinstance(low, int | float) and low < 255


def _deep_grey(image: Image.Image, *, decoded: bool) -> list[str]:
    """The kinds of a grey image with more than 8 bits."""
    white = white_of(image)
    if decoded and white > 4095:
        _, high = image.getextrema()
        if isinstance(high, int | float) and high <= 4095:
            return [
                f"16-bit grey whose values end at {4095 if high > 1023 else 1023}, nearly black: stretch them first"
            ]
    return [f"grey of {white.bit_length()} bits, scaled to 8"]


def text_note(texts: Iterable[str]) -> tuple[str, ...]:
    """The kind of a conversation that contains `<s>` or `</s>`, which begin and end one."""
    return (SPECIAL_TOKENS,) if any("<s>" in text or "</s>" in text for text in texts) else ()


class NoteBook:
    """Collects notes sample by sample."""

    def __init__(self) -> None:
        self._ids: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}

    def add(self, kinds: Iterable[str], sample_id: str) -> None:
        """Count `kinds` for one sample."""
        for kind in kinds:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            ids = self._ids.setdefault(kind, [])
            if len(ids) < EXAMPLES:
                ids.append(sample_id)

    def merge(self, notes: Notes) -> None:
        """Add the notes of other samples."""
        for kind, note in notes.items():
            self._counts[kind] = self._counts.get(kind, 0) + note.count
            ids = self._ids.setdefault(kind, [])
            ids += note.ids[: EXAMPLES - len(ids)]

    def notes(self) -> dict[str, Note]:
        """All that was collected, by kind."""
        return {kind: Note(self._counts[kind], tuple(self._ids[kind])) for kind in sorted(self._counts)}


def note_lines(notes: Notes) -> list[str]:
    """One line per kind: `12 x several frames, the first is used (cat/a, cat/b, cat/c, ...)`."""
    lines = []
    for kind, note in notes.items():
        more = ", ..." if note.count > _SHOWN else ""
        lines.append(f"{note.count:,} x {kind} ({', '.join(note.ids[:_SHOWN])}{more})")
    return lines


def notes_as_json(notes: Notes) -> dict[str, list[object]]:
    """As sidecars and manifests hold them: {kind: [count, [ids]]}."""
    return {kind: [note.count, list(note.ids)] for kind, note in notes.items()}


def notes_from_json(values: Mapping[str, tuple[int, list[str]]]) -> dict[str, Note]:
    """Inverse of `notes_as_json`."""
    return {kind: Note(int(count), tuple(ids)) for kind, (count, ids) in values.items()}
