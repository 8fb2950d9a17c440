"""Drawing the demo world: one object on a plain background, as PNG bytes.

Place, size, background, shade and noise differ from image to image; shape, colour and texture are the class.
The same `(seed, id)` always gives the same bytes.
"""

from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw

from data_prep.toy_world.facts import ToyClass, keyed_rng

RGB = {"red": (205, 45, 45), "green": (45, 165, 60), "blue": (50, 80, 210), "yellow": (225, 200, 45)}
SHADE = 18  # an object's colour moves by up to this many grey levels per channel
NOISE = 9.0  # standard deviation of the pixel noise, in grey levels


def render(toy_class: ToyClass, *, seed: int, key: str, image_size: int) -> bytes:
    """One image of `toy_class`, `image_size` x `image_size` pixels, RGB. `key` is the sample's id."""
    rng = keyed_rng(seed, f"image of {key}")
    background = tuple(int(value) for value in rng.integers(90, 166, size=3))
    colour = tuple(int(value) for value in np.array(RGB[toy_class.colour]) + rng.integers(-SHADE, SHADE + 1, size=3))
    half = image_size * rng.uniform(0.32, 0.44)
    slack = image_size / 2 - half
    x, y = image_size / 2 + rng.uniform(-slack, slack, size=2)

    canvas = Image.new("RGB", (image_size, image_size), background)
    surface = _surface(toy_class.texture, colour, image_size, phase=int(rng.integers(4)))
    canvas.paste(surface, mask=_mask(toy_class.shape, x, y, half, image_size))
    pixels = np.asarray(canvas, dtype=np.float64) + rng.normal(0.0, NOISE, size=(image_size, image_size, 3))
    buffer = BytesIO()
    Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def _surface(texture: str, colour: tuple[int, ...], size: int, *, phase: int) -> Image.Image:
    """The object's surface, as large as the image: plain, or with dark stripes or dots every four pixels."""
    rows, columns = np.indices((size, size)) + phase
    dark = {
        "plain": np.zeros((size, size), dtype=bool),
        "striped": rows % 4 < 2,
        "dotted": (rows % 4 < 2) & (columns % 4 < 2),
    }[texture]
    pixels = np.where(dark[..., None], np.array(colour) * 0.35, np.array(colour))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _mask(shape: str, x: float, y: float, half: float, size: int) -> Image.Image:
    """Where the object is: 255 inside, 0 outside. `(x, y)` is its centre and `half` half its width, in pixels."""
    mask = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(mask)
    box = (x - half, y - half, x + half, y + half)
    if shape == "circle":
        draw.ellipse(box, fill=255)
    elif shape == "square":
        draw.rectangle((x - 0.85 * half, y - 0.85 * half, x + 0.85 * half, y + 0.85 * half), fill=255)
    elif shape == "triangle":
        draw.polygon([(x, y - half), (x - half, y + half), (x + half, y + half)], fill=255)
    else:
        arm = 0.36 * half
        draw.rectangle((x - half, y - arm, x + half, y + arm), fill=255)
        draw.rectangle((x - arm, y - half, x + arm, y + half), fill=255)
    return mask
