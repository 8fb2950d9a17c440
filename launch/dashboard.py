"""Creates or updates a dashboard of a W&B project: a workspace view and a report with the same panels.

    python -m launch.dashboard --project vlm-classify --entity my-team
    python -m launch.dashboard --project vlm-classify --evaluation open_world    # also this evaluation's tables
    python -m launch.dashboard --project vlm-classify --dry-run                  # print the sections and panels

The panels are also written as a JSON file, which keeps the addresses of view and report: the next call with this file
updates both. Without the package wandb-workspaces, or without a key, only the file is written.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.command_line import add_dry_run, command_parser, exit_on_user_error
from configs.credentials import has_wandb_key
from configs.errors import ConfigError, UserError
from configs.saving import LoggingConfig, check_project
from configs.section import check_name
from data_prep.atomic import write_bytes
from launch.dashboard_panels import Section, sections, specification
from launch.dashboard_server import DashboardServer, missing_package

VIEW, REPORT = "workspace_url", "report_url"


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file and save the dashboard. Exits with code 2 on a mistake, or if the server refuses."""
    arguments = _parser().parse_args(argv)
    try:
        check_project(arguments.project)
        for name in arguments.evaluation:
            check_name(name, "--evaluation")
        chosen = sections(arguments.evaluation)
        if arguments.dry_run:
            print("\n".join(_lines(chosen)))
            return
        save(arguments, chosen)
    except UserError as error:
        exit_on_user_error(error)


def save(arguments: argparse.Namespace, chosen: Sequence[Section]) -> None:
    """Write the specification, save both on the server if that is possible, and keep their addresses in the file."""
    file = arguments.output or Path("runs") / f"wandb-dashboard-{arguments.project}.json"
    known = _addresses(file)
    known = {VIEW: arguments.workspace or known[VIEW], REPORT: arguments.report or known[REPORT]}
    described = specification(arguments.project, arguments.entity, chosen)
    _write(file, described | known)
    print(f"{sum(len(section.panels) for section in chosen)} panels in {len(chosen)} sections: {file}")
    if reason := missing_package() or _no_key():
        print(f"nothing is sent to W&B: {reason}", file=sys.stderr)
        return
    server = DashboardServer(arguments.project, arguments.entity)
    title = f"{arguments.project}: training"
    for key, saved in ((VIEW, server.save_workspace), (REPORT, server.save_report)):
        known[key] = saved(title, chosen, known[key])
        _write(file, described | known)  # each as soon as it is known: the second may fail
        print(f"{key.removesuffix('_url')}: {known[key]}")


def _no_key() -> str | None:
    return None if has_wandb_key() else "there is no key; set WANDB_API_KEY or run `wandb login`"


def _addresses(file: Path) -> dict[str, str | None]:
    """View and report that an earlier call saved. Raises `ConfigError` for a file that is none of this program's."""
    if not file.exists():
        return {VIEW: None, REPORT: None}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["sections"] is not None:
            return {key: None if found.get(key) is None else str(found[key]) for key in (VIEW, REPORT)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ConfigError(f"{file} is there and is not a dashboard's file; give another one with --output, or remove it")


def _write(file: Path, values: dict[str, Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise ConfigError(f"{file} cannot be written ({error.strerror}); give another file with --output") from error


def _lines(chosen: Sequence[Section]) -> list[str]:
    lines = []
    for section in chosen:
        lines.append(section.name)
        lines += [
            f"    {panel.title}: {panel.pattern or panel.table or panel.matrix or ', '.join(panel.metrics)}"
            for panel in section.panels
        ]
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    default = LoggingConfig().project
    parser.add_argument("--project", default=default, metavar="NAME", help=f"W&B project (default: {default})")
    parser.add_argument("--entity", metavar="NAME", help="W&B team or user (default: that of the key)")
    parser.add_argument(
        "--evaluation",
        action="append",
        default=[],
        metavar="NAME",
        help="an evaluation whose tables are shown (may be repeated)",
    )
    parser.add_argument("--workspace", metavar="URL", help="update this view, not the one that the file names")
    parser.add_argument("--report", metavar="URL", help="update this report, not the one that the file names")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the file with panels and addresses (default: runs/wandb-dashboard-PROJECT.json)",
    )
    add_dry_run(parser, "sections and panels")
    return parser


if __name__ == "__main__":
    main()
