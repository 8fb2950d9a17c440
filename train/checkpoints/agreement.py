"""The checkpoint that all ranks use: one that every rank can read, with the same content on each."""

from collections.abc import Sequence

from configs.errors import RunError
from configs.run_dir import RunDir
from train.checkpoints.reading import Checkpoint, OtherFormat, open_checkpoint
from train.distributed.world import all_gather_objects


def agreed_checkpoint(run: RunDir, steps: Sequence[int]) -> tuple[Checkpoint | None, list[str]]:
    """The first of `steps` that is complete and the same for every rank, and what was wrong with those before it.

    Collective; `steps` must be the same on all ranks. None if there is none. Raises `OtherFormat` for a complete
    checkpoint of another version.
    """
    problems: list[str] = []
    for step in steps:
        checkpoint, problem, other_format = _try(run, step)
        seen = all_gather_objects((checkpoint.digest if checkpoint else None, problem, other_format))
        found = [(rank, text) for rank, (_, text, _) in enumerate(seen) if text]
        if not found and len({digest for digest, _, _ in seen}) == 1:
            return checkpoint, problems
        text = f"rank {found[0][0]}: {found[0][1]}" if found else "not the same on all ranks; is the folder shared?"
        if any(other for _, _, other in seen):
            raise OtherFormat(text.partition(": ")[2])
        problems.append(f"{run.checkpoint(step).name}: {text.removeprefix('rank 0: ')}")
    return None, problems


def _try(run: RunDir, step: int) -> tuple[Checkpoint | None, str | None, bool]:
    """The checkpoint of `step` as this rank sees it, or why it cannot be used, and whether its format is another's."""
    try:
        return open_checkpoint(run, step), None, False
    except RunError as error:
        return None, str(error), isinstance(error, OtherFormat)
