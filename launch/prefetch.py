"""Fetches the models of configs from the hub, for nodes without a network, and checks every file.

    python -m launch.prefetch --config configs/flowers102_lora.yaml configs/eval/flowers102_clip.yaml --dry-run
    HF_HOME=/shared/hf python -m launch.prefetch --config configs/flowers102_lora.yaml

Run it on a login node, which needs no torch: the files go into the hub's cache (HF_HOME), where training and
evaluation find them. A fetch that was interrupted continues. Every copy is compared with the size and the hash that the
hub states and, for safetensors, with its own header; a damaged one is fetched again once. --check compares what is here
with its stored hashes, without a network. Exits with code 2 if a model is not complete.
"""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from configs.command_line import add_dry_run, command_parser, exit_on_user_error
from configs.errors import ConfigError, RunError, UserError
from configs.evaluation import EvalConfig
from configs.hub_files import MODEL_FILES, is_hub_error
from configs.kinds import kind_of
from configs.layers import file_layers
from configs.load import load_config
from configs.locations import is_hub_id
from configs.run import RunConfig
from configs.run_dir import MODEL_CONFIG
from configs.slurm import SlurmConfig
from configs.words import counted
from data_prep.byte_size import size
from data_prep.disk_space import free_space
from launch.hub_files import HubFile, HubModel, fault_of, local_faults, model_files
from launch.job_environment import other_home


def models_of(configs: Sequence[Path], named: Sequence[str] = ()) -> tuple[list[HubModel], list[str]]:
    """The models of the hub that `configs` and `named` (ID or ID@REVISION) ask for, and notes about the others.

    Raises `ConfigError` for a file that cannot be read, another HF_HOME than the jobs', and a name that is no hub id.
    """
    wanted: dict[HubModel, None] = {}
    notes: list[str] = []
    for path in configs:
        if kind_of(file_layers(path)) is EvalConfig:
            evaluation = load_config(EvalConfig, path)[0]
            model, revision = evaluation.model, evaluation.revision
        else:
            run = load_config(RunConfig, path)[0]
            _check_home(run.slurm, path)
            model, revision = run.model.base, run.model.revision
        if ":" in model:
            notes.append(f"{path}: {model} is not on the hub; its own program fetches it")
        elif not is_hub_id(model):
            notes.append(f"{path}: {model} is a folder, nothing to fetch")
        else:
            wanted[HubModel(model, revision)] = None
    for text in named:
        name, _, revision_text = text.partition("@")
        if not is_hub_id(name):
            raise ConfigError(f"--model is {text!r}; give a hub id, OWNER/NAME or OWNER/NAME@REVISION")
        wanted[HubModel(name, revision_text or None)] = None
    return list(wanted), notes


def _check_home(slurm: SlurmConfig, path: Path) -> None:
    """Raise `ConfigError` if the jobs look for models in another folder than this program writes to."""
    home = other_home(slurm.setup)
    if home is not None:
        raise ConfigError(
            f"slurm.setup of {path} has HF_HOME={home}, and here it is {os.environ.get('HF_HOME') or 'not set'}; run: "
            f"HF_HOME={shlex.quote(home)} python -m launch.prefetch ..."
        )


def listed(model: HubModel) -> tuple[str, list[HubFile]]:
    """Commit and files of a model; raises `RunError` if the hub does not tell."""
    from huggingface_hub import HfApi

    with HubErrors(f"the files of {model} could not be listed"):
        info = HfApi().model_info(model.name, revision=model.revision, files_metadata=True)
    files = model_files(info.siblings or [])
    if not any(file.name.endswith((".safetensors", ".bin")) for file in files):
        raise RunError(f"{model} has no safetensors and no pytorch_model.bin; name another model")
    return info.sha or "", files


def cached(model: HubModel, commit: str, files: Sequence[HubFile]) -> dict[str, Path]:
    """The copies that are here with their full size, by name."""
    from huggingface_hub import try_to_load_from_cache

    found = {}
    for file in files:
        path = try_to_load_from_cache(model.name, file.name, revision=commit)
        if isinstance(path, str) and Path(path).is_file() and Path(path).stat().st_size == file.size:
            found[file.name] = Path(path)
    return found


def describe(model: HubModel, commit: str, files: Sequence[HubFile], here: dict[str, Path]) -> Iterator[str]:
    """Lines about a model: its files, their sizes, and which are here."""
    missing = sum(file.size for file in files if file.name not in here)
    total = sum(file.size for file in files)
    yield f"{model} (commit {commit[:12]}): {counted(len(files), 'file')}, {size(total)}, {size(missing)} to fetch"
    for file in files:
        yield f"  {size(file.size):>12}  {'here   ' if file.name in here else 'missing'}  {file.name}"


def fetch(model: HubModel, files: Sequence[HubFile], commit: str) -> Path:
    """Fetch and check a model; returns its folder. Raises `RunError` for what cannot be fetched or stays damaged."""
    from huggingface_hub import hf_hub_download, snapshot_download

    _check_room(model, sum(file.size for file in files) - sum(_size(p) for p in cached(model, commit, files).values()))
    patterns = [*MODEL_FILES, *(file.name for file in files)]
    with HubErrors(f"{model} could not be fetched"):
        folder = Path(snapshot_download(model.name, revision=model.revision, allow_patterns=patterns))
    if commit and folder.name != commit:
        raise RunError(f"{model} changed on the hub while it was fetched; run this again")
    for file in files:
        if fault := fault_of(folder / file.name, file):
            print(f"  {file.name} {fault}; fetching it again", file=sys.stderr, flush=True)
            with HubErrors(f"{file.name} of {model} could not be fetched"):
                hf_hub_download(model.name, file.name, revision=commit, force_download=True)
            if fault := fault_of(folder / file.name, file):
                raise RunError(f"{file.name} of {model} {fault}, also after a second fetch; try another mirror or disk")
    return folder


def check(model: HubModel) -> tuple[Path | None, list[str]]:
    """The cached folder of a model, and what is wrong with it; without a network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model.name, MODEL_CONFIG, revision=model.revision)
    if not isinstance(found, str):
        return None, [f"{model} is not in the cache"]
    folder = Path(found).parent
    faults = [f"{model}: {name} {fault}" for name, fault in local_faults(folder)]
    if not any(path.suffix in (".safetensors", ".bin") for path in folder.rglob("*")):
        faults.append(f"{model}: no weights are here")
    return folder, faults


def _check_room(model: HubModel, needed: int) -> None:
    from huggingface_hub import constants

    free, folder = free_space(Path(constants.HF_HUB_CACHE))
    if needed > free:
        raise RunError(
            f"{model} needs {size(needed)} more and {folder} has {size(free)} free; set HF_HOME to a "
            "larger disk, here and in slurm.setup"
        )


def _size(path: Path) -> int:
    return path.stat().st_size


class HubErrors:
    """Turns the errors of the hub's library and of the network into `RunError`."""

    def __init__(self, what: str):
        self.what = what

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise `RunError` with the first line of the error and the next step."""
        from huggingface_hub.errors import GatedRepoError

        if not is_hub_error(error):
            return
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON"):
            step = "HF_HUB_OFFLINE is set: unset it here"
        elif isinstance(error, GatedRepoError):
            step = "accept its terms on its page and log in with `hf auth login`"
        else:
            step = "what was fetched is kept: run this again where the hub can be reached"
        raise RunError(f"{self.what}: {reason}; {step}") from error


def main() -> None:
    """List (--dry-run), check (--check) or fetch and check the models."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "--config", type=Path, nargs="+", default=[], metavar="FILE", help="configs of runs, evaluations"
    )
    parser.add_argument("--model", nargs="+", default=[], metavar="ID[@REVISION]", help="further models of the hub")
    parser.add_argument("--check", action="store_true", help="check the copies that are here, without a network")
    add_dry_run(parser, "files and sizes")
    arguments = parser.parse_args()
    if not arguments.config and not arguments.model:
        parser.error("give --config FILE or --model ID")
    try:
        models, notes = models_of(arguments.config, arguments.model)
        print("".join(f"{note}\n" for note in notes), end="", flush=True)
        incomplete = [text for model in models for text in _one(model, arguments.check, arguments.dry_run)]
    except UserError as error:
        exit_on_user_error(error)
    if incomplete:
        print("\n".join(f"problem: {text}" for text in incomplete), file=sys.stderr)
        print("fetch it: the same command without --check", file=sys.stderr)
        raise SystemExit(2)


def _one(model: HubModel, only_check: bool, dry_run: bool) -> list[str]:
    """Deal with one model; returns what is wrong with it."""
    if only_check:
        folder, faults = check(model)
        if not faults:
            print(f"{model} is complete in {folder}", flush=True)
        return faults
    commit, files = listed(model)
    print("\n".join(describe(model, commit, files, cached(model, commit, files))), flush=True)
    if not dry_run:
        print(f"complete and checked in {fetch(model, files, commit)}", flush=True)
    return []


if __name__ == "__main__":
    main()
