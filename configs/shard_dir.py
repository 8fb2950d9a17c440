"""The names of all files of a shard set. No other module spells them."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ShardDir:
    """The folder of one source's shards: tars, their sidecars, the manifest and the index."""

    root: Path

    @property
    def manifest(self) -> Path:
        """Counts, checksums, histogram and drops; written last, so its presence means the set is complete."""
        return self.root / "manifest.json"

    def sets_inside(self) -> list[Path]:
        """Complete sets in sub-folders: `shards/my_photos` is the folder of `train` and `test`, and no set itself."""
        return sorted(path.parent for path in self.root.glob(f"*/{self.manifest.name}"))

    @property
    def index(self) -> Path:
        """Byte offsets of each sample's members, as a NumPy array."""
        return self.root / "index.npy"

    @property
    def image_hashes(self) -> Path:
        """A hash of every sample's image, as a NumPy array: finds images that are also in another set."""
        return self.root / "image_xxh3.npy"

    def shard(self, number: int) -> Path:
        """Tar file `number`."""
        return self.root / f"{number:06d}.tar"

    def shards(self) -> list[Path]:
        """Every tar file that exists."""
        return sorted(self.root.glob("[0-9]*.tar"))

    def sidecar(self, number: int) -> Path:
        """Recipe, checksum and index rows of shard `number`; written after it, so its presence means it is complete."""
        return self.root / f"{number:06d}.json"

    def token_counts(self, key: str) -> Path:
        """Tokens of every sample for one tokenizer and chat template, whose digest is `key`, as a NumPy array."""
        return self.root / f"lengths-{key}.npy"

    @property
    def token_counts_lock(self) -> Path:
        """Held by the process that counts tokens."""
        return self.root / ".lengths.lock"
