"""Samples as one picture: a tile for each image, with the sample's number, id and label below it."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from data_prep.images import ImageError, decode_rgb
from data_prep.sample import Sample

TILE, COLUMNS = 180, 5  # pixels, tiles a row
LINE, LINES = 16, 3  # pixels of a line of text, lines below a tile
CAPTION = LINE * LINES + 8
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(samples: Mapping[int, Sample]) -> Image.Image:
    """The images of `samples` (number to sample) as tiles, in order.

    Below each are number, id and label, or the first answer of a sample without a label; the middle of a long text is
    left out. A sample without an image, or whose image does not decode, is a grey tile that says so.
    """
    rows = max(1, -(-len(samples) // COLUMNS))
    sheet = Image.new("RGB", (COLUMNS * TILE, rows * (TILE + CAPTION)), "white")
    draw, font = ImageDraw.Draw(sheet), _font()
    for tile, (number, sample) in enumerate(samples.items()):
        x, y = tile % COLUMNS * TILE, tile // COLUMNS * (TILE + CAPTION)
        picture, problem = _picture(sample)
        sheet.paste(picture, (x + 2, y + 2))
        draw.text((x + 8, y + TILE // 2), problem, fill="black", font=font)
        for line, text in enumerate((f"[{number}]", sample.id, _name(sample))):
            draw.text((x + 4, y + TILE + line * LINE), shortened(text, TILE - 8, font), fill="black", font=font)
    return sheet


def _picture(sample: Sample) -> tuple[Image.Image, str]:
    """The image in the middle of a grey square, and why it is not there."""
    size = (TILE - 4, TILE - 4)
    if not isinstance(sample.image, bytes):
        return Image.new("RGB", size, "lightgrey"), "no image"
    try:
        return ImageOps.pad(decode_rgb(sample.image), size, color="lightgrey"), ""
    except ImageError:
        return Image.new("RGB", size, "lightgrey"), "image does not decode"


def _name(sample: Sample) -> str:
    if sample.label_name is not None:
        return f"{sample.label} {sample.label_name}"
    return next((turn.text for turn in sample.turns if turn.speaker == "gpt"), "no label")


def shortened(text: str, width: int, font: Font) -> str:
    """`text` in one line of at most `width` pixels: its middle is left out if it is longer."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        shorter = text[: kept // 2] + "\u2026" + text[len(text) - (kept - kept // 2) :]
        if font.getlength(shorter) <= width:
            return shorter
    return "\u2026"


def _font() -> Font:
    """The font of the plots, which has more of the world's letters than Pillow's own."""
    import matplotlib as mpl  # slow to import

    file = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(file), 12) if file.is_file() else ImageFont.load_default(12)
