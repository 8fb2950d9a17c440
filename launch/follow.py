"""Evaluates each checkpoint of a training as it appears, in a separate process: an accuracy curve while it trains.

    python -m launch.follow runs/NAME --config configs/eval/open_world.yaml --set limit=256
    python -m launch.follow runs/NAME --config configs/eval/open_world.yaml --set limit=256 --best
    CUDA_VISIBLE_DEVICES=7 python -m launch.follow runs/NAME --config FILE --every 1000      a GPU that does not train

Start it when the training has begun; it ends with it. Each checkpoint is exported, evaluated by `python -m eval.run`
and reported under runs/NAME/eval/; its exported weights are deleted afterwards. accuracy.html there has the curve with
intervals, which runs/index.html leads to; TensorBoard and W&B get the numbers where the run logs to them. The training
waits for nothing. The same command continues after a kill and evaluates nothing twice.

With --best, the exported weights of the best checkpoint so far are kept, and replace the run's export when the training
has finished (as `python -m eval.choose`). Choose on other items than those you report.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from configs.command_line import add_dry_run, add_overrides, command_parser, exit_on_user_error
from configs.errors import ConfigError, UserError
from configs.run_dir import RunDir
from data_prep.file_lock import hold_folder
from launch.follow_curve import describe, read_points, write_curve
from launch.follow_steps import Follower, follower_of, is_over

POLL_SECONDS = 10.0


def main(argv: Sequence[str] | None = None) -> None:
    """Follow the run to its end. Exits with 2 on a mistake, with 1 if a checkpoint could not be evaluated."""
    arguments = _parser().parse_args(argv)
    try:
        follower = follower_of(arguments.run, arguments.config, arguments.overrides, arguments.every)
        if arguments.interval <= 0:
            raise ConfigError(f"--interval is {arguments.interval:g}; give seconds above 0")
        if arguments.dry_run:
            print(follower.plan_text())
            return
        _lock(follower)
        follow(follower, interval=arguments.interval, once=arguments.once, best=arguments.best)
    except UserError as error:
        exit_on_user_error(error)
    except KeyboardInterrupt:
        print("\nstopped; the same command continues", file=sys.stderr)
        raise SystemExit(130) from None
    if follower.failed:
        raise SystemExit(1)


def follow(follower: Follower, *, interval: float, once: bool, best: bool) -> None:
    """Evaluate checkpoints as they appear until the training has ended; with `once` those that are there."""
    follower.begin(keep_best=best)
    print(follower.plan_text(), flush=True)
    while True:
        over = once or is_over(follower.run)  # before looking: a checkpoint may appear between the two
        while (step := follower.next_step()) is not None:
            follower.evaluate(step, keep_best=best)
            write_curve(follower.run, follower.name, follower.skipped)
            points = {point["step"]: point for point in read_points(follower.run, follower.name)}
            result = (
                describe(points[step]) if step in points else f"not evaluated: {follower.skipped.get(step, 'failed')}"
            )
            print(f"step {step:,}: {result}", flush=True)
        if over:
            break
        time.sleep(interval)
    follower.note_deleted()
    page = write_curve(follower.run, follower.name, follower.skipped)
    if best and not once:
        follower.export_best()
    print(f"page: {page}")


def _lock(follower: Follower) -> None:
    """Raise `RunError` if another process follows the same run with the same evaluation."""
    folder = follower.run.evaluation(follower.name)
    folder.mkdir(parents=True, exist_ok=True)
    hold_folder(RunDir(folder).lock, "being written", unlocked="start this command once only")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, for example runs/demo_mix")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="evaluation; see configs/eval/")
    add_overrides(parser, "override one setting of it")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only steps that N divides (default: all)")
    parser.add_argument(
        "--best", action="store_true", help="export the checkpoint with the highest accuracy at the end"
    )
    parser.add_argument("--once", action="store_true", help="evaluate the checkpoints that are there, and end")
    parser.add_argument(
        "--interval", type=float, default=POLL_SECONDS, metavar="SECONDS", help="between two looks (default: 10)"
    )
    add_dry_run(parser, "what is evaluated already and what is left")
    return parser


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
