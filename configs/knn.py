"""Settings of nearest neighbours: how a test item is classified by the training items whose states are most alike."""

from dataclasses import dataclass

from configs.errors import ConfigError
from configs.section import Section, setting

VOTES = ("majority", "weighted")


@dataclass(frozen=True, kw_only=True)
class KnnConfig(Section):
    """Nearest neighbours among stored states (`eval.knn`)."""

    k: tuple[int, ...] = setting((1, 5, 10, 20), doc="Numbers of neighbours that vote; every one is reported.")
    metric: str = setting(
        "cosine",
        doc="Similarity of two states: their cosine, or `l2`: 1 - d^2 / 2m with their Euclidean distance d and the "
        "mean squared norm m of the training states, which for unit vectors is the cosine.",
        choices=("cosine", "l2"),
    )
    votes: tuple[str, ...] = setting(
        VOTES,
        doc="`majority`: every neighbour has one vote; `weighted`: exp(similarity / temperature) votes, as DINO does "
        "(arXiv 2104.14294).",
    )
    temperature: float = setting(0.07, doc="Temperature of weighted votes (DINO: 0.07).", above=0)

    def __post_init__(self) -> None:
        """Raise `ConfigError` for a k below 1, an unknown vote, or a repeated or missing one of either."""
        super().__post_init__()
        for k in self.k:
            if k < 1:
                raise ConfigError(f"knn.k has {k}; every number of neighbours is at least 1")
        for vote in self.votes:
            if vote not in VOTES:
                raise ConfigError(f"knn.votes has {vote!r}; choose of: {', '.join(VOTES)}")
        for name, values in (("k", self.k), ("votes", self.votes)):
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"knn.{name} is {list(values)}; give at least one, each once")
