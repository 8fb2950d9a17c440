"""Builds shards from raw sources: `python -m data_prep.build --config configs/demo.yaml`.

Accepts the configs of runs and of evaluations: both have a section `data`. Finished shards are kept, so the same
command continues a build that was stopped, and does nothing the second time.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from configs.command_line import add_base_model, config_of, config_parser, exit_on_user_error, tell_user_error
from configs.data import DataConfig
from configs.errors import ConfigError, DataError, UserError
from configs.evaluation import EvalConfig
from configs.kinds import kind_of
from configs.layers import file_layers
from configs.locations import as_url
from configs.run import RunConfig
from configs.shard_dir import ShardDir
from configs.words import counted
from data_prep.drops import check_drop_fraction
from data_prep.finalise import finalise
from data_prep.progress import Progress
from data_prep.records import expected_count
from data_prep.registry import check_source, list_readers, open_source
from data_prep.shard_cache import ShardCache
from data_prep.shards import ShardSet
from data_prep.sidecar import Recipe
from data_prep.summary import build_summary, check_summary
from data_prep.train_test_check import SourceContent, conflict_notes, mismatch_warnings, same_paths, source_roles
from data_prep.workers import Job, Outcome, build_parts, count_shards


def main(argv: Sequence[str] | None = None) -> None:
    """Build the sources of a configuration. Exits with code 2 on a mistake in configuration or data."""
    arguments = _parser().parse_args(argv)
    try:
        config = config_of(arguments, config_schema(arguments.config))
        _check_workers(arguments)
        data: DataConfig = config.data
        chosen = chosen_sources(arguments.sources, data)
        for name in chosen if not arguments.check_only else ():  # before hours are spent on the first source
            check_source(data, name)
        _say("train and test: ", same_paths(data, *source_roles(config)))
        seen: dict[str, SourceContent] = {}
        failed: list[str] = []
        for name in chosen:
            try:
                build_source(name, data, arguments, seen)
            except UserError as error:
                if not arguments.check_only or len(chosen) == 1:
                    raise
                tell_user_error(error)  # the other sources are looked at before the check ends
                failed.append(name)
        if failed:
            raise DataError(f"{len(failed)} of {len(chosen)} sources have errors, which are above: {', '.join(failed)}")
        if arguments.workers == 1 or arguments.finalise:  # otherwise other workers may not have finished
            _compare_sources(config, chosen, seen)
    except UserError as error:
        exit_on_user_error(error)


def build_source(
    name: str, data: DataConfig, arguments: argparse.Namespace, seen: dict[str, SourceContent] | None = None
) -> None:
    """Build one source, or this worker's share of it, and print a summary; adds what `--check-only` saw to `seen`."""
    source = open_source(data, name)
    for note in source.notes:
        print(f"{name}: {note}", file=sys.stderr)
    folder = ShardDir(Path(data.shards) / name)
    recipe = Recipe.of(name, data, source)
    job = Job(folder=folder, recipe=recipe, source=source, rebuild=arguments.rebuild, check_only=arguments.check_only)
    if not job.check_only:
        _prepare_folder(folder, rebuild=job.rebuild)
    outcome = count_shards(job) if arguments.finalise else _do_share(job, arguments)
    if job.check_only:
        print(check_summary(name, outcome, source.ignored))
        check_drop_fraction(name, outcome.drops, outcome.records, data.max_drop_fraction)
        if seen is not None:
            seen[name] = outcome.content(name, source.class_names)
        return
    shared = arguments.workers > 1 or arguments.finalise
    finished = finalise(job, outcome.records, data.max_drop_fraction, shared=shared)
    if arguments.finalise and finished.missing:
        raise DataError(
            f"{folder.root} lacks {counted(len(finished.missing), 'shard')}, the first of them "
            f"{finished.missing[0]:06d}.tar; run the build (or the workers that failed) again before --finalise"
        )
    print(build_summary(folder, outcome, finished.manifest, len(finished.missing)))


def _compare_sources(config: RunConfig | EvalConfig, chosen: Sequence[str], seen: Mapping[str, SourceContent]) -> None:
    """Print what does not fit within the chosen sources, and between training and test sources that are complete."""
    data, (training, tests) = config.data, source_roles(config)
    contents = dict(seen)
    for name in dict.fromkeys((*chosen, *training, *tests)):
        folder = Path(data.shards) / name
        if name not in contents and as_url(data.shards) is None and ShardDir(folder).manifest.is_file():
            with suppress(DataError):  # a source that was not built now may be damaged
                contents[name] = SourceContent.of(name, ShardSet.open(folder, ShardCache.of(data)))
    _say("", [note for name in chosen if name in contents for note in conflict_notes(contents[name])])
    known = [[contents[name] for name in names if name in contents] for names in (training, tests)]
    _say("train and test: ", mismatch_warnings(*known) if known[0] else [])


def _say(start: str, notes: Sequence[str]) -> None:
    for note in notes:
        print(f"{start}{note}", file=sys.stderr)


def _do_share(job: Job, arguments: argparse.Namespace) -> Outcome:
    """This worker's shards, on all its processes."""
    processes = arguments.processes
    parts = [arguments.worker * processes + process for process in range(processes)]
    with Progress(job.recipe.source, expected_count(job.source)) as progress:
        return build_parts(job, parts, arguments.workers * processes, progress.add)


def config_schema(path: Path) -> type[RunConfig] | type[EvalConfig]:
    """Whether `path` describes a run or an evaluation."""
    return kind_of(file_layers(path)) or RunConfig


def _prepare_folder(folder: ShardDir, *, rebuild: bool) -> None:
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {folder.root} ({error.strerror}); set data.shards") from error
    if rebuild:
        folder.manifest.unlink(missing_ok=True)


def _check_workers(arguments: argparse.Namespace) -> None:
    if arguments.processes < 1 or not 0 <= arguments.worker < arguments.workers:
        raise ConfigError(
            f"--worker {arguments.worker} --workers {arguments.workers} --processes {arguments.processes}: a worker is"
            f" one of 0 to --workers less one, and has at least one process"
        )


def chosen_sources(names: str | None, data: DataConfig) -> list[str]:
    """The sources that `--sources A,B` names, or all. Raises `ConfigError` for one that does not exist."""
    if not data.sources:
        raise ConfigError("data.sources is empty; name at least one source to build")
    chosen = names.split(",") if names else list(data.sources)
    for name in chosen:
        if name not in data.sources:
            raise ConfigError(f"--sources names {name!r}; data.sources has: {', '.join(data.sources)}")
    return chosen


class _ListReaders(argparse.Action):
    """`--list-readers`: print and stop, like --help."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(list_readers())
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = config_parser(__doc__, RunConfig)
    add_base_model(parser)
    parser.add_argument("--sources", metavar="A,B", help="only these of data.sources (default: all)")
    parser.add_argument("--worker", type=int, default=0, metavar="I", help="worker index, 0 to N-1")
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="number of workers that share the build (default 1)"
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="processes on this machine (default 1)")
    task = parser.add_mutually_exclusive_group()
    task.add_argument("--check-only", action="store_true", help="report what would be dropped; write nothing")
    task.add_argument("--finalise", action="store_true", help="only write the manifest; every shard must exist")
    task.add_argument("--rebuild", action="store_true", help="replace shards made from other settings or files")
    parser.add_argument("--list-readers", nargs=0, action=_ListReaders, help="print readers and options, and stop")
    return parser


if __name__ == "__main__":
    main()
