"""Which files of a repository of the model hub a model is loaded from, and which errors are the hub's."""

NETWORK_LIBRARIES = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")

SAFETENSORS = "*.safetensors"
MODEL_FILES = ("*.json", "*.jinja", "*.model", "*.txt", SAFETENSORS)  # sub-folders included
OLD_WEIGHTS = "pytorch_model.bin"  # of repositories without safetensors, as some published CLIPs have it


def is_hub_error(error: BaseException | None) -> bool:
    """Whether a call of huggingface_hub failed for the hub's, the network's or the disk's sake.

    Its versions use different libraries for requests, and let their errors through.
    """
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError | ValueError) or library in (*NETWORK_LIBRARIES, "huggingface_hub")
