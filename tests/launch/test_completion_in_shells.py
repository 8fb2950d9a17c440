"""bash, zsh and fish complete commands, options, settings and files with the printed scripts."""

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPLETED = {
    "la": "launch",
    "eval comp": "compare",
    "eval run --pri": "--print-config",
    "eval run --set protocol.tas": "protocol.task=",
    "train --config configs/ev": "configs/eval/",
    "launch watch CHANGEL": "CHANGELOG.md",
}
"""What is typed after `vlm-classify`, and the last word after a Tab."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """A home without the user's settings, and `vlm-classify` on the PATH."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "vlm-classify"
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from launch.cli import main; main()"
    program.write_text(f"#!{sys.executable}\n{start}\n", encoding="utf-8")
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "TERM": "dumb"}


def output_of(environment: dict[str, str], *command: str) -> list[str]:
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout.split()


def in_bash(environment: dict[str, str], typed: str) -> list[str]:
    """What bash offers for the last word of `typed`."""
    script = (
        'source <(vlm-classify completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }; '
        "$(complete -p vlm-classify | sed 's/.*-F \\([^ ]*\\).*/\\1/'); printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    return output_of(environment, "bash", "-c", script, "bash", "vlm-classify", *typed.split(" "))


def in_fish(environment: dict[str, str], typed: str) -> list[str]:
    """What fish offers for the last word of `typed`."""
    script = f"vlm-classify completion fish | source; complete -C 'vlm-classify {typed}'"
    return output_of(environment, "fish", "--no-config", "-c", script)


def in_zsh(environment: dict[str, str], typed: str) -> list[str]:
    """The last word of a line of an interactive zsh, after a Tab: zsh completes in its line editor only."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(ROOT)
        os.execvpe("zsh", ["zsh", "-f", "-i"], environment)

    def until(end: bytes) -> bytes:
        seen = b""
        while end not in seen:
            seen += os.read(terminal, 4096)  # raises OSError when zsh has ended
        return seen

    try:
        setup = "autoload -U compinit; compinit -u -D; source <(vlm-classify completion zsh); print rea''dy"
        os.write(terminal, f"PS1=; unsetopt zle_bracketed_paste; {setup}\n".encode())
        until(b"ready")
        os.write(terminal, f"vlm-classify {typed}\t\x01print -r -- be''gin \x05 e''nd\n".encode())  # ^A, ^E
        line = re.search(rb"begin vlm-classify (.*?) *end", until(b" end"), re.DOTALL)
        assert line is not None
        return [line[1].decode().split(" ")[-1]]
    finally:
        os.close(terminal)
        os.waitpid(process, 0)


@pytest.mark.slow
@pytest.mark.parametrize("typed", COMPLETED)
@pytest.mark.parametrize("shell", [in_bash, in_zsh, in_fish], ids=["bash", "zsh", "fish"])
def test_a_shell_completes_commands_options_settings_and_files(shell, typed, environment):
    if shutil.which(shell.__name__.removeprefix("in_")) is None:
        pytest.skip(f"{shell.__name__.removeprefix('in_')} is not installed")
    assert shell(environment, typed) == [COMPLETED[typed]]


@pytest.mark.slow
@pytest.mark.parametrize("shell", [in_bash, in_fish], ids=["bash", "fish"])
def test_several_candidates_are_all_offered(shell, environment):
    if shutil.which(shell.__name__.removeprefix("in_")) is None:
        pytest.skip(f"{shell.__name__.removeprefix('in_')} is not installed")
    offered = shell(environment, "train --config configs/dem")
    assert offered == ["configs/demo.yaml", "configs/demo_captions.yaml", "configs/demo_classification.yaml"]
