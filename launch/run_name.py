"""The name of a run from the name of a folder: ASCII, as folders of runs and jobs need it."""

import hashlib
import re
import unicodedata
from pathlib import Path

LONGEST = 60  # characters; a number may follow
LOWER = {"ß": "ss", "ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ħ": "h"}
LETTERS = str.maketrans(
    LOWER | {letter.upper(): text.upper() for letter, text in LOWER.items() if len(letter.upper()) == 1}
)
"""Letters without a decomposition, to ASCII."""


def name_of(folder: Path) -> str:
    """A run's name from the name of a folder.

    Letters lose their accents. Where a letter has no ASCII form, or the name is too long, the end is a hash of the
    folder's name, so that two folders do not get one name.

    >>> name_of(Path("/data/My Photos!")), name_of(Path("/data/fotos_käfer_2024"))
    ('my_photos', 'fotos_kafer_2024')
    >>> name_of(Path("/data/写真"))
    'photos-9c3250'
    """
    own = unicodedata.normalize("NFC", folder.resolve().name).lower()
    plain = unicodedata.normalize("NFKD", own.translate(LETTERS))
    base = "".join(character for character in plain if not unicodedata.combining(character))
    lost = any(character.isalnum() and not character.isascii() for character in base)
    name = re.sub(r"[^a-z0-9_.]+", "_", base).strip("_.-")
    if name and not lost and len(name) <= LONGEST:
        return name
    number = hashlib.sha256(own.encode(errors="surrogateescape")).hexdigest()[:6]
    return f"{name[: LONGEST - 7].strip('_.-') or 'photos'}-{number}"
