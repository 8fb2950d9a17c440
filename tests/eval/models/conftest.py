"""A chat API in a thread, and an evaluation that asks it."""

import importlib.util
import sys
from pathlib import Path

import pytest

NAME = "chat_api_server"
spec = importlib.util.spec_from_file_location(NAME, Path(__file__).with_name("api_server.py"))
assert spec and spec.loader
module = importlib.util.module_from_spec(spec)
sys.modules[NAME] = module
spec.loader.exec_module(module)

CANARY = "sk-canary-71c8b1d2"


@pytest.fixture
def serve(monkeypatch):
    """`serve(reply, ...)` starts a server with these replies and points the environment at it."""
    contexts = []

    def start(*replies):
        context = module.serving(*replies)
        server = context.__enter__()
        contexts.append(context)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", CANARY)
        return server

    yield start
    for context in contexts:
        context.__exit__(None, None, None)


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
