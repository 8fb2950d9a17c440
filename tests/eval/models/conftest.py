"""An evaluation that asks a chat API."""

import pytest


@pytest.fixture
def ask(write_config, tmp_path):
    """Writes an evaluation of `api:some-model` and runs it; keyword arguments are settings (`api` a dict)."""
    from eval.run import main

    def run(*arguments, **settings):
        api = {"backoff": 0.001, "concurrency": 3, "attempts": 4, "timeout": 20} | settings.pop("api", {})
        config = write_config(**({"model": "api:some-model", "api": api} | settings))
        main(["--config", str(config), *arguments])
        return tmp_path / "answers"

    return run
