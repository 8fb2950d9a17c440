"""What graders by sentence embeddings share: the encoder in grading.encoder, loaded by the first grade."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from configs.errors import ConfigError
from configs.evaluation import EvalConfig

if TYPE_CHECKING:
    from eval.models.sentence_encoder import SentenceEncoder

TOGETHER = 256  # answers
CUT = "longer than the encoder reads"
EMPTY = "no answer"
Vectors = NDArray[np.float32]


class Embeddings:
    """Vectors of texts, each text embedded once."""

    def __init__(self, config: EvalConfig, grader: str):
        """Raises `ConfigError` if no encoder is named, or its folder is not there."""
        if config.grading.encoder is None:
            raise ConfigError(
                f"grading.encoder is not set; the grader {grader} needs a sentence-transformers folder, or a CLIP's"
            )
        self.folder = Path(config.grading.encoder).expanduser()
        if not self.folder.is_dir():
            raise ConfigError(
                f"grading.encoder is {config.grading.encoder!r}, which is no folder here; download the model and give "
                "its folder"
            )
        self._vectors: dict[str, Vectors] = {}

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The digest of the weights and of the files that say how texts become vectors."""
        import hashlib

        from eval.models.image_encoders import weights_identity

        files = sorted(
            [*self.folder.glob("*.json"), *self.folder.glob("*/*.json"), *self.folder.glob("*/*.safetensors")]
        )
        digest = hashlib.sha256()
        for file in files:
            digest.update(str(file.relative_to(self.folder)).encode() + hashlib.sha256(file.read_bytes()).digest())
        weights = [path for path in (self.folder, self.folder / "0_Transformer") if any(path.glob("*.safetensors"))]
        identity = weights_identity(weights[0] if weights else self.folder)
        return {"encoder": identity, "encoder_files": digest.hexdigest()}

    @cached_property
    def encoder(self) -> "SentenceEncoder":
        """The encoder, on a GPU if there is one. Raises `ConfigError` if it cannot be loaded."""
        import torch

        from eval.models.sentence_encoder import load_sentence_encoder

        return load_sentence_encoder(self.folder, "cuda" if torch.cuda.is_available() else "cpu")

    def of(self, texts: Sequence[str]) -> Vectors:
        """(N, H) vectors of length 1."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors |= zip(new, self.encoder.embed(new).numpy(), strict=True)
        return np.stack([self._vectors[text] for text in texts])

    def flags(self, text: str) -> tuple[str, ...]:
        """`CUT` for a text of which only the beginning is compared."""
        return (CUT,) if self.encoder.is_cut(text) else ()
