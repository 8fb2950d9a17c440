"""Parquet files, as the hub ships data sets: records from all columns, images read only when they are needed.

    {"image": {"bytes": ..., "path": "a.jpg"}, "label": 3}      with the class names in the schema's metadata

Needs the package pyarrow (`pip install 'vlm-classify[parquet]'`). The schema's key `huggingface` says which columns
are class labels (https://huggingface.co/docs/datasets/en/about_dataset_features): their numbers have names.
"""

import json
import re
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from configs.errors import DataError
from data_prep.parquet_cell import ParquetBytes, damaged, open_parquet, pyarrow, version_of

_SHARD = re.compile(r"(.+?)-(\d+)-of-(\d+)(?:-[0-9a-f]+)?")


def parquet_files(folder: Path, split: str | None) -> list[Path]:
    """The parquet files of a folder (or of its folder `data`) in order; [] if it has none.

    Raises `DataError` if they are of other splits than `split`, or of several, as their names say, or if one of the
    files that a name counts (train-00001-of-00003) is missing.
    """
    files = sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/*.parquet"))
    splits: dict[str, list[Path]] = {}
    for file in files:
        match = _SHARD.fullmatch(file.stem)
        splits.setdefault(match[1] if match else file.stem, []).append(file)
    if split in splits:
        return _complete(splits[split])
    if (
        split is not None
        and files
        and "split" not in open_parquet(str(files[0]), version_of(files[0])).schema_arrow.names
    ):
        raise DataError(f"{folder} has no split {split!r}: its files are of {', '.join(splits)}; set the option split")
    if len(splits) > 1:
        raise DataError(
            f"{folder} holds the splits {', '.join(splits)}; choose one with the option split, or set path to one file"
        )
    return _complete(files)


def _complete(files: list[Path]) -> list[Path]:
    """`files`, if none of those that their names count is missing. Raises `DataError` that names the missing ones."""
    counted = [match for file in files if (match := _SHARD.fullmatch(file.stem))]
    for name, total in dict.fromkeys((match[1], match[3]) for match in counted):
        present = {int(match[2]) for match in counted if (match[1], match[3]) == (name, total)}
        missing = [
            f"{name}-{number:0{len(total)}d}-of-{total}" for number in range(int(total)) if number not in present
        ]
        if missing:
            raise DataError(
                f"{files[0].parent} has {len(present)} of {int(total)} files of {name}: "
                f"{', '.join(missing[:3])} missing"
                "; is the download complete? To read a part only, set path to one file"
            )
    return files


def read_parquet(files: list[Path]) -> tuple[list[Any], dict[str, tuple[str, ...]]]:
    """(records, class names by column) of all `files`, which must have the same columns.

    Raises `ConfigError` without pyarrow, and `DataError` for a file that is damaged or has other columns.
    """
    records: list[Any] = []
    first: tuple[Any, ...] | None = None
    for file in files:
        version = version_of(file)
        opened = open_parquet(str(file), version)
        form = (opened.schema_arrow.names, _class_labels(opened.schema_arrow.metadata))
        if first is not None and form != first:
            raise DataError(f"{file} has other columns or class names than {files[0]}; are they of one data set?")
        first = form
        records += _records(opened, str(file), version)
    return records, first[1] if first else {}


def _records(opened: Any, file: str, version: str) -> list[dict[str, Any]]:
    """All rows as objects; images as `ParquetBytes`."""
    lazy: dict[str, str] = {}  # field to the path of its bytes
    columns = []
    paths = [opened.schema.column(number).path for number in range(len(opened.schema))]
    for field in opened.schema_arrow:
        leaves = [path for path in paths if path == field.name or path.startswith(f"{field.name}.")]
        lazy_leaves = [path for path in leaves if _holds_bytes(field.type, path.rpartition(".")[2])]
        if len(lazy_leaves) == 1:
            lazy[field.name] = lazy_leaves[0]
        columns += [path for path in leaves if path not in lazy.values()]
    try:
        table = opened.read(columns=columns)
        rows = table.to_pylist() if columns else [{} for _ in range(opened.metadata.num_rows)]
        present = {
            name: _present(opened, leaf)
            for name, leaf in lazy.items()
            if not _is_list(opened.schema_arrow.field(name).type)
        }
    except (OSError, ValueError) as error:
        raise damaged(file, error) from error
    for number, row in enumerate(rows):
        for key, value in row.items():
            row[key] = _plain(value)
        for name, leaf in lazy.items():
            cell = ParquetBytes(file, version, leaf, number)
            if name in present:
                row[name] = _with_cell(row.get(name), leaf, cell if present[name][number] else None)
            else:
                row[name] = _with_cells(row[name], cell)
    return rows


def _with_cell(value: Any, leaf: str, cell: ParquetBytes | None) -> Any:
    """The value of a column of images: the cell itself, or a struct with it."""
    key = leaf.rpartition(".")[2]
    return cell if key == leaf else (value or {}) | {key: cell}


def _with_cells(value: Any, cell: ParquetBytes) -> Any:
    """The value of a column of lists of images, each a struct with its cell; a list or a struct may be null."""
    key = cell.leaf.rpartition(".")[2]
    return value and [
        None if item is None else item | {key: replace(cell, item=number)} for number, item in enumerate(value)
    ]


def _holds_bytes(kind: Any, name: str) -> bool:
    """Whether a column is of bytes, of structs whose part `name` is, or of lists of such structs."""
    types = pyarrow().types
    if _is_list(kind):
        kind = kind.value_type
        if not types.is_struct(kind) or kind.num_fields < 2:
            return False  # without another part the length of a list is known from its bytes only: all are read
    if types.is_struct(kind):
        index = kind.get_field_index(name)
        return index >= 0 and _is_bytes(kind.field(index).type)
    return _is_bytes(kind)


def _is_list(kind: Any) -> bool:
    types = pyarrow().types
    return bool(types.is_list(kind) or types.is_large_list(kind))


def _is_bytes(kind: Any) -> bool:
    types = pyarrow().types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _present(opened: Any, leaf: str) -> list[bool]:
    """Of every row whether a cell holds bytes. Row groups whose statistics count no nulls are not read for it."""
    flags: list[bool] = []
    for group in range(opened.metadata.num_row_groups):
        part = opened.metadata.row_group(group)
        chunk = next(part.column(i) for i in range(part.num_columns) if part.column(i).path_in_schema == leaf)
        known = chunk.is_stats_set and chunk.statistics.has_null_count
        if known and chunk.statistics.null_count == 0:
            flags += [True] * part.num_rows
        else:
            cells = opened.read_row_group(group, columns=[leaf]).column(0)
            parts = cells.flatten() if "." in leaf else [cells]
            flags += parts[0].is_valid().to_pylist()
    return flags


def _plain(value: Any) -> Any:
    """A value as JSON can hold it; bytes as they are."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, datetime | date | time | timedelta | Decimal) else value


def _class_labels(metadata: dict[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Column to class names, from the schema's metadata."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {key: names for key, feature in features.items() if (names := _names_in(feature))}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _names_in(feature: Any) -> tuple[str, ...]:
    """The class names of a feature of type ClassLabel, or of a list of them; () for others."""
    inner = feature.get("feature", feature) if isinstance(feature, dict) else feature
    inner = inner[0] if isinstance(inner, list) and inner else inner
    if not isinstance(inner, dict) or inner.get("_type") != "ClassLabel":
        return ()
    names = inner.get("names") or ()
    return tuple(map(str, (names[key] for key in sorted(names, key=int)) if isinstance(names, dict) else names))
