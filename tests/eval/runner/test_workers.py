"""Processes of one evaluation: none outlives the command that started it, killed without a word as it may be."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LONGEST = 30.0  # seconds until a process that went on would be found out; one that ends does so at once


@pytest.mark.slow
def test_a_killed_command_leaves_no_process_that_continues_to_ask(write_config):
    """Two processes wait for a server that never answers: their connections tell whether they live."""
    config = write_config(model="api:some-model", api={"concurrency": 1, "timeout": 600})
    with socket.create_server(("127.0.0.1", 0)) as server:
        environment = {"OPENAI_BASE_URL": f"http://127.0.0.1:{server.getsockname()[1]}/v1", "NO_PROXY": "*"}
        command = [sys.executable, "-m", "eval.run", "--config", str(config), "--processes", "2"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, **quiet)
        try:
            server.settimeout(120)
            asking = [server.accept()[0] for _ in range(2)]
        finally:
            process.kill()
            process.wait()
        for connection in asking:
            connection.settimeout(LONGEST)
            while connection.recv(65536):
                pass  # the question; then the end of the connection, or TimeoutError
