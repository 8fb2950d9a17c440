r"""Shell completion: `vlm-classify completion bash`, `zsh` or `fish` prints a script for the shell to read.

    source <(vlm-classify completion bash)          # in ~/.bashrc
    source <(vlm-classify completion zsh)           # in ~/.zshrc, after compinit
    vlm-classify completion fish | source           # in ~/.config/fish/config.fish

The script calls this program at every Tab: commands, options, files, and names of settings after `--set`.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.section import Section
from launch.command_table import COMMANDS, COMPLETION, PROGRAM, STAGES, TRAIN, arguments_after, find
from launch.program_options import options_of
from launch.training import LAUNCHER_OPTIONS

CANDIDATES = "__candidates"  # `vlm-classify __candidates WORD ...` is what the scripts call

SCRIPTS = {
    "bash": r"""_vlm_classify() {
    local IFS=$'\n'
    COMPREPLY=($(vlm-classify __candidates "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/.] ]] && compopt -o nospace
    return 0
}
complete -F _vlm_classify vlm-classify
""",
    "zsh": r"""_vlm_classify() {
    local -a found
    found=("${(@f)$(vlm-classify __candidates "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    compadd -S ' ' -- ${found:#*[=/.]}
    compadd -S '' -- ${(M)found:#*[=/.]}
}
compdef _vlm_classify vlm-classify
""",
    "fish": r"""complete -c vlm-classify -f -a '(vlm-classify __candidates (commandline -opc)[2..] (commandline -ct))'
""",
}


def main(arguments: Sequence[str]) -> None:
    """Print the script of one shell. Exits with code 2 for another."""
    if len(arguments) != 1 or arguments[0] not in SCRIPTS:
        asked_for_help = list(arguments) in (["-h"], ["--help"])
        usage = f"usage: {PROGRAM} {COMPLETION} {'|'.join(SCRIPTS)}\n\n{__doc__}"
        print(usage, end="", file=sys.stdout if asked_for_help else sys.stderr)
        sys.exit(0 if asked_for_help else 2)
    print(SCRIPTS[arguments[0]], end="")


def candidates(words: Sequence[str]) -> list[str]:
    """What the last of `words`, the one at the cursor, may become; the words before it are complete.

    >>> candidates(["eval", "sc"])
    ['scoreboard']
    """
    *before, current = words or [""]
    command = find([*before, current] if current.startswith("-") else before)
    if command:
        return _of_command(command.module, arguments_after(command, before), current)
    if not before:
        return _starting_with(current, [*STAGES, COMPLETION])
    if before == [COMPLETION]:
        return _starting_with(current, SCRIPTS)
    verbs = [each.verb for each in COMMANDS if each.stage == before[0]]
    return _starting_with(current, verbs) if len(before) == 1 else []


def _of_command(module: str, before: Sequence[str], current: str) -> list[str]:
    options = options_of(module)
    last = before[-1] if before else ""
    if last == "--set" and options.schema:
        return _starting_with(current, setting_names(_schema(options.schema)))
    if options.values.get(last):
        return _starting_with(current, options.values[last])
    if current.startswith("-"):
        launcher = LAUNCHER_OPTIONS if module == TRAIN.module else ()
        return _starting_with(current, [*options.values, *launcher])
    return _files(current, (".yaml", ".yml") if last == "--config" else ())


def setting_names(schema: type[Section], prefix: str = "") -> list[str]:
    """`name=` of every setting, dotted; `name.` of those that map names to settings."""
    found = []
    for spec in dataclasses.fields(schema):
        if isinstance(spec.type, type) and issubclass(spec.type, Section):
            found += setting_names(spec.type, f"{prefix}{spec.name}.")
        else:
            mapping = getattr(spec.type, "__origin__", None) is dict
            found.append(f"{prefix}{spec.name}{'.' if mapping else '='}")
    return found


def _schema(name: str) -> type[Section]:
    from configs.captions import CaptionConfig
    from configs.evaluation import EvalConfig
    from configs.run import RunConfig

    return {"RunConfig": RunConfig, "EvalConfig": EvalConfig, "CaptionConfig": CaptionConfig}[name]


def _files(current: str, suffixes: tuple[str, ...]) -> list[str]:
    """Folders (ending in `/`) and files that begin with `current`, of `suffixes` only if there are any."""
    folder, _, start = current.rpartition("/")
    where = Path(folder + "/" if current.startswith("/") else folder or ".").expanduser()
    try:
        inside = sorted(where.iterdir())
    except OSError:
        return []
    shown = [path for path in inside if path.name.startswith(start) and (start or not path.name.startswith("."))]
    prefix = f"{folder}/" if "/" in current else ""
    folders = [f"{prefix}{path.name}/" for path in shown if path.is_dir()]
    return folders + [f"{prefix}{p.name}" for p in shown if p.is_file() and (not suffixes or p.suffix in suffixes)]


def _starting_with(current: str, names: Sequence[str] | dict[str, str]) -> list[str]:
    return [name for name in names if name.startswith(current)]
