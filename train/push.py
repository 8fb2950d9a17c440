"""Uploads an exported model to the model hub: https://huggingface.co/docs/huggingface_hub/guides/upload."""

from pathlib import Path

from configs.errors import ConfigError, RunError
from configs.locations import is_hub_id
from configs.run_dir import ExportDir


def check_repository(repository: str) -> None:
    """Raise `ConfigError` unless `repository` has the form of a repository of the hub."""
    if not is_hub_id(repository):
        raise ConfigError(f"--push is {repository!r}; give a repository of the hub as OWNER/NAME")


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload `folder` to the repository `owner/name`, which is created (private, unless `public`); returns its address.

    Files that the hub has already are not sent again, so an interrupted upload is repeated by the same command. The
    token is read from HF_TOKEN or from `hf auth login`, the server from HF_ENDPOINT. Raises `ConfigError` for another
    form of name, `RunError` with the server's reason if it refuses or does not answer.
    """
    check_repository(repository)
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        api.create_repo(repository, private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message="Exported by vlm-classify",
            ignore_patterns=[ExportDir(folder).provenance.name],  # names of machines and paths
        )
    except (LocalTokenNotFoundError, HfHubHTTPError, OSError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        login = "; log in with `hf auth login`, or set HF_TOKEN" if status in (401, 403) or "oken" in str(error) else ""
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise RunError(f"{folder} was not uploaded to {api.endpoint}/{repository}: {reason}{login}") from error
    return f"{api.endpoint}/{repository}"
