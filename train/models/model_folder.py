"""What a model folder holds, read and checked before its weights are loaded; loads no torch.

Half a download, an adapter or quantised weights are recognised here and refused in one line that says what to do.
"""

import json
from pathlib import Path
from typing import Any

from configs.errors import ConfigError, first_line
from configs.run_dir import MODEL_CONFIG, RunDir

INDEX = "model.safetensors.index.json"
LFS_START = b"version https://git-lfs.github.com/spec"
LFS_BYTES = 1024  # a pointer file is smaller
LFS_FILES = ("*.json", "*.safetensors", "*.model", "*.bin")
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack")
QUANTISED = "only unquantised weights (bf16, fp16, fp32) are loaded"
MERGE = "merge it into its base (peft: merge_and_unload, then save_pretrained) and give the merged folder"
NARROW = ("F8", "F6", "F4", "I8", "I4", "U8", "U4")
GENERATION = "generation_config.json"
HEADER_LIMIT = 100_000_000  # bytes; safetensors' own limit


def _no_model(folder: Path) -> str:
    """Why a folder without config.json is no model, and what to give instead."""
    run = RunDir(folder)
    if run.config.is_file():
        return f"{folder} is a run, not a model folder; name its export: {run.export}"
    if run.identity.is_file() or run.metrics.is_file() or run.steps():
        export = f", or name its export: {run.export}" if (run.export / MODEL_CONFIG).is_file() else ""
        return f"{folder} is a run without its {run.config.name}, which was not copied with it; copy that too{export}"
    return f"{folder} has no config.json; it is not a model folder"


def read_model_config(folder: Path) -> dict[str, Any]:
    """The config.json in `folder`.

    Raises `ConfigError` if there is none or it is not valid, for an adapter, and for quantised weights.
    """
    _refuse_pointers(folder)
    _refuse_peft_adapter(folder)
    file = folder / MODEL_CONFIG
    if not file.is_file():
        if next(folder.glob("*.gguf"), None):
            raise ConfigError(f"{folder} holds GGUF weights, a format of llama.cpp; {QUANTISED}, from transformers")
        raise ConfigError(_no_model(folder))
    config = read_object(file)
    if settings := config.get("quantization_config"):
        method = settings.get("quant_method", "unknown method") if isinstance(settings, dict) else settings
        raise ConfigError(
            f"{folder} holds quantised weights ({method}: quantization_config in config.json); {QUANTISED}: "
            "give the folder or hub id of the model before it was quantised"
        )
    return config


def check_sections(folder: Path, config: dict[str, Any], sections: tuple[str, ...]) -> None:
    """Raise `ConfigError` if config.json lacks one of `sections`, for which transformers would take its defaults."""
    if lacking := [name for name in sections if not isinstance(config.get(name), dict)]:
        raise ConfigError(
            f"{folder / MODEL_CONFIG} is incomplete, it has no {' and no '.join(lacking)}; copy config.json from "
            "where the model came from"
        )


def lacks_weights(folder: Path) -> bool:
    """Whether `folder` holds no weights under any usual name, nor a list of them: settings and tokenizer alone."""
    return not any(file.suffix in WEIGHT_SUFFIXES or file.name == INDEX for file in folder.iterdir())


def weight_files(folder: Path) -> list[Path]:
    """All `*.safetensors` in `folder`, each present and whole, sorted by name.

    Raises `ConfigError` if there are none, or one is missing, truncated, a git-lfs pointer or no safetensors file.
    """
    _refuse_pointers(folder)
    _refuse_peft_adapter(folder)
    files = sorted(folder.glob("*.safetensors"))
    index = folder / INDEX
    if not (folder / "model.safetensors").is_file() and index.is_file():
        names = sorted(set(read_object(index).get("weight_map", {}).values()))
        if absent := [name for name in names if not (folder / name).is_file()]:
            raise ConfigError(
                f"{folder} lacks {len(absent)} of its {len(names)} weight files ({shortened(absent)}), which {INDEX} "
                "lists; download the model again"
            )
    if not files:
        raise ConfigError(f"{folder} has no *.safetensors file; convert the model with save_pretrained first")
    if not index.is_file() and not (folder / "model.safetensors").is_file():
        raise ConfigError(
            f"{folder} has {files[0].name} and neither model.safetensors nor {INDEX}; download the model again"
        )
    for file in files:
        _refuse_quantised(file, read_header(file))
    return files


def _refuse_quantised(file: Path, header: dict[str, Any]) -> None:
    """Raise `ConfigError` for weights of 4 to 8 bits, which mean nothing without scales that nobody would apply."""
    narrow = {name: str(entry["dtype"]) for name, entry in header.items() if str(entry["dtype"]).startswith(NARROW)}
    if narrow:
        types = ", ".join(sorted(set(narrow.values())))
        raise ConfigError(
            f"{file} holds {len(narrow):,} weights of type {types} ({shortened(sorted(narrow))}); {QUANTISED}: give "
            "the folder or hub id of the model before it was quantised"
        )


def check_generation_settings(folder: Path) -> None:
    """Raise `ConfigError` for a generation_config.json that is damaged or names end tokens otherwise than by ids.

    transformers reads a damaged one as if it was absent: answers would end elsewhere.
    """
    file = folder / GENERATION
    if not file.is_file():
        return
    stated = read_object(file).get("eos_token_id")
    ends = stated if isinstance(stated, list) else [] if stated is None else [stated]
    if wrong := [end for end in ends if isinstance(end, bool) or not isinstance(end, int) or end < 0]:
        raise ConfigError(
            f"{file}: eos_token_id is {stated!r}, and {wrong[0]!r} is no token id; write the ids of the end tokens, as "
            "in [2, 32000]"
        )


def loaded_files(folder: Path) -> list[Path]:
    """Those of `weight_files` that transformers loads: model.safetensors, or else the files that the index lists."""
    files = weight_files(folder)
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    listed = set(read_object(folder / INDEX).get("weight_map", {}).values())
    return [file for file in files if file.name in listed]


def read_header(file: Path) -> dict[str, Any]:
    """Name to type, shape and offsets of each tensor in a safetensors file. Raises `ConfigError` if it is not whole."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > HEADER_LIMIT:
            raise ConfigError(f"{file} is not a safetensors file ({size:,} bytes); download it again")
        text = stream.read(length)
    if len(text) < length:
        raise ConfigError(f"{file} is truncated: {size:,} bytes, less than its header alone; download it again")
    try:
        header: dict[str, Any] = json.loads(text)
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        whole = 8 + length + max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file} is not a safetensors file: its header is not readable; download it again") from error
    if size < whole:
        raise ConfigError(f"{file} is truncated: {size:,} bytes of {whole:,}; download it again")
    return tensors


def shortened(names: list[str], shown: int = 3) -> str:
    """The first names and how many more there are.

    >>> shortened(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest:,} more" if rest > 0 else "")


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises `ConfigError` for anything else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ConfigError(
            f"{file} is not valid JSON ({first_line(error)}); copy it again from where the model came from"
        ) from error
    if not isinstance(found, dict):
        raise ConfigError(f"{file} holds no JSON object; copy it again from where the model came from")
    return found


def _refuse_pointers(folder: Path) -> None:
    """Raise `ConfigError` for git-lfs pointers, which a clone without git-lfs leaves in place of large files."""
    pointers = []
    for file in sorted(file for pattern in LFS_FILES for file in folder.glob(pattern)):
        if file.stat().st_size < LFS_BYTES:
            with file.open("rb") as stream:
                if stream.read(len(LFS_START)) == LFS_START:
                    pointers.append(file.name)
    if pointers:
        raise ConfigError(
            f"{folder} holds git-lfs pointers in place of {shortened(pointers)}; run `git lfs pull` in the repository, "
            "or download the model with `hf download`"
        )


def _refuse_peft_adapter(folder: Path) -> None:
    """Raise `ConfigError` for an adapter of PEFT, which transformers would load another base for."""
    file = folder / "adapter_config.json"
    if not file.is_file():
        if found := next((f for f in folder.glob("adapter_model.*") if f.suffix in (".safetensors", ".bin")), None):
            raise ConfigError(f"{folder} holds a LoRA adapter ({found.name}) without its adapter_config.json; {MERGE}")
        return
    base = read_object(file).get("base_model_name_or_path") or "a base that it does not name"
    raise ConfigError(f"{folder} holds a LoRA adapter of {base} (adapter_config.json), not a whole model; {MERGE}")
