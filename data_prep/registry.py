"""Which readers exist, and how a source of the configuration is opened.

A reader is one function in one file; adding one is writing that file and a line here:

    def read(path: Path, *, option: int = 1) -> Source: ...

Its keyword-only parameters are the source's `options`, next to those of every source with classes
(`data_prep.readers.class_options`). `path` may be None only if that is its default; a reader that
declares it as `FilePaths` accepts URLs and patterns, too.
"""

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from configs.data import DataConfig, SourceConfig
from configs.errors import ConfigError, DataError, UserError
from data_prep.file_paths import FilePaths
from data_prep.readers.class_options import OPTION_NAMES, ClassOptions
from data_prep.records import ReiterableRecords
from data_prep.sample import Source
from data_prep.shard_cache import ShardCache

Reader = Callable[..., Source]

READERS = {
    "caltech101": "data_prep.readers.caltech101:read",
    "coop_split": "data_prep.readers.coop_split:read",
    "dtd": "data_prep.readers.dtd:read",
    "fgvc_aircraft": "data_prep.readers.fgvc_aircraft:read",
    "flowers102": "data_prep.readers.flowers102:read",
    "food101": "data_prep.readers.food101:read",
    "image_folder": "data_prep.readers.image_folder:read",
    "imagenet_flat": "data_prep.readers.imagenet_flat:read",
    "imagenet_train_tar": "data_prep.readers.imagenet:read_train_tar",
    "imagenet_validation": "data_prep.readers.imagenet:read_validation",
    "imagewikiqa": "data_prep.readers.imagewikiqa:read",
    "jsonl": "data_prep.readers.jsonl:read",
    "llava": "data_prep.readers.llava:read",
    "mm_vet": "data_prep.readers.mm_vet:read",
    "oxford_pets": "data_prep.readers.oxford_pets:read",
    "pope": "data_prep.readers.pope:read",
    "stanford_cars": "data_prep.readers.stanford_cars:read",
    "sun397": "data_prep.readers.sun397:read",
    "textvqa": "data_prep.readers.textvqa:read",
    "toy_world": "data_prep.toy_world.reader:read",
    "ucf101": "data_prep.readers.ucf101:read",
    "webdataset": "data_prep.readers.webdataset:read",
}


def open_source(data: DataConfig, name: str) -> Source:
    """The records of the source `name`; files behind URLs are read through the cache of `data`.

    Raises `ConfigError` for an unknown reader or option, `DataError` for a missing path; both name the source.
    """
    config = data.sources[name]
    with _naming_source(name):
        reader = _checked_reader(config)
        path: Path | FilePaths | None = Path(config.path).expanduser() if config.path is not None else None
        if config.path is not None and _accepts_patterns(reader):
            path = FilePaths(config.path, ShardCache.of(data))
        options = {key: value for key, value in config.options.items() if key not in OPTION_NAMES}
        source = reader(path, **options)
        if isinstance(source.records, Iterator):  # a build of several workers reads them twice
            source = replace(source, records=ReiterableRecords(lambda: reader(path, **options).records))
        return ClassOptions.of(config.options).apply(source)


def check_source(data: DataConfig, name: str) -> None:
    """Check what can be checked without reading data: reader, options, path. Raises as `open_source`."""
    with _naming_source(name):
        _checked_reader(data.sources[name])


@contextmanager
def _naming_source(name: str) -> Iterator[None]:
    """Add the name of the source to errors raised in the block."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"data.sources.{name}: {error}") from error
    except OSError as error:
        raise DataError(f"data.sources.{name} cannot be read: {error}; fix its path or permissions") from error


def _checked_reader(config: SourceConfig) -> Reader:
    reader = find_reader(config.reader)
    _check_options(config, reader)
    if config.path is None:
        if inspect.signature(reader).parameters["path"].default is inspect.Parameter.empty:
            raise ConfigError(f"reader {config.reader} needs a path; set it")
    elif _accepts_patterns(reader):
        FilePaths(config.path).check()
    elif not Path(config.path).expanduser().exists():
        raise DataError(f"the path {config.path} does not exist; set it to what the reader {config.reader} reads")
    return reader


def find_reader(name: str) -> Reader:
    """The function of the reader `name`. Raises `ConfigError` that lists the known ones."""
    if name not in READERS:
        near = difflib.get_close_matches(name, READERS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"unknown reader {name!r}; {hint}known readers: {', '.join(READERS)}")
    module, _, function = READERS[name].partition(":")
    reader: Reader = getattr(import_module(module), function)
    return reader


def list_readers() -> str:
    """All readers as text: name, first line of documentation, options with their defaults."""
    lines = []
    for name in READERS:
        reader = find_reader(name)
        lines.append(f"{name}: {(inspect.getdoc(reader) or '').splitlines()[0]}")
        lines += [f"    {parameter}" for parameter in _options(reader).values()]
    lines.append("every source whose records have classes:")
    lines += [f"    {parameter}" for parameter in _CLASS_OPTIONS.values()]
    return "\n".join(lines)


def _accepts_patterns(reader: Reader) -> bool:
    return typing.get_type_hints(reader).get("path") is FilePaths


def option_defaults(reader: str) -> dict[str, Any]:
    """The options of the reader `reader` that have a default. Raises `ConfigError` for an unknown reader."""
    parameters = (_options(find_reader(reader)) | _CLASS_OPTIONS).values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


_CLASS_OPTIONS = dict(inspect.signature(ClassOptions).parameters)


def _options(reader: Reader) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(reader).parameters
    return {name: p for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _check_options(config: SourceConfig, reader: Reader) -> None:
    known = _options(reader)
    valid = f"options of reader {config.reader}: {', '.join(known) or 'none'}; of sources with classes: "
    valid += ", ".join(OPTION_NAMES)
    known |= _CLASS_OPTIONS
    for name in config.options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(f"unknown option {name!r}; {hint}{valid}")
    hints = typing.get_type_hints(ClassOptions) | typing.get_type_hints(reader)
    for name, parameter in known.items():
        if name in config.options:
            _check_type(config.reader, name, config.options[name], hints.get(name, Any))
        elif parameter.default is inspect.Parameter.empty:
            raise ConfigError(f"reader {config.reader} needs the option {name!r}; {valid}")
    ClassOptions.of(config.options)  # raises for a value outside its limits


def _check_type(reader: str, name: str, value: Any, hint: Any) -> None:
    """Raise `ConfigError` if `value` is not of the type that the reader's signature declares."""
    kinds = _alternatives(hint)
    if _is_of(value, hint):
        return
    for kind in kinds:  # of a mapping or list, the entry that is wrong
        inner = typing.get_args(kind)
        if inner and isinstance(value, typing.get_origin(kind)):
            entries = value.items() if isinstance(value, dict) else enumerate(value, start=1)
            key, entry = next((key, one) for key, one in entries if not (_is_of(one, inner[-1]) and _is_key(key, kind)))
            raise ConfigError(
                f"option {name} of reader {reader} has {entry!r} at {key!r}; each entry must be {_named(inner[-1])}"
            )
    wanted = " or ".join(map(_named, kinds))
    quotes = ", in quotes if its text is a number" if str in kinds and isinstance(value, int | float) else ""
    raise ConfigError(f"option {name} of reader {reader} is {value!r}; it must be {wanted}{quotes}")


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def _is_of(value: Any, hint: Any) -> bool:
    """Whether `value` is of a declared type, and the entries of a mapping or list are of theirs."""
    return any(_is_of_one(value, kind) for kind in _alternatives(hint))


def _is_of_one(value: Any, kind: Any) -> bool:
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if kind is Any:
        return True
    if isinstance(value, bool) and origin is not bool:
        return False
    if not isinstance(value, (float, int) if origin is float else origin):
        return False
    return not inner or _entries_are_of(value, kind)


def _entries_are_of(value: Any, kind: Any) -> bool:
    """Whether the keys and entries of a mapping or list are those of `kind`."""
    entries = value.values() if isinstance(value, dict) else value
    of_type = typing.get_args(kind)[-1]
    return all(_is_of(entry, of_type) for entry in entries) and all(_is_key(key, kind) for key in value)


def _is_key(key: Any, kind: Any) -> bool:
    """Whether `key` may be one of a mapping of type `kind`; True for a list."""
    return typing.get_origin(kind) is not dict or _is_of(key, typing.get_args(kind)[0])


def _named(kind: Any) -> str:
    """A type as an error names it."""
    if kind is type(None):
        return "nothing"
    return str(getattr(typing.get_origin(kind) or kind, "__name__", kind))
