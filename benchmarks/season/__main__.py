"""``python -m benchmarks.season``: a season of nights with disturbances, compared with a quiet one."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import Figure, machine, show_figures
from benchmarks.nights import announce, default_folder
from benchmarks.season.checks import checks
from benchmarks.season.nights import frames_of
from benchmarks.season.plan import SAMPLE, SeasonNight, plan_season
from benchmarks.season.quiet import quiet_site, reduce_quietly
from benchmarks.season.season import Season, as_json
from benchmarks.season.site import site
from deployments.printable_output import ArgumentParser


def season(
    plan: tuple[SeasonNight, ...],
    seed: int,
    size: int,
    folder: Path,
    *,
    budget: float | None = None,
    keep: bool = False,
) -> list[Figure]:
    """Run a season and its quiet counterpart in a new folder, and return what was found.

    Parameters
    ----------
    plan
        Its nights.
    seed
        Of the way in which files arrive.
    size
        Rows and columns of a frame.
    folder
        Where the simulated nights are kept.
    budget
        Time after which no further night begins, s.
    keep
        Keep the logs of the service.
    """
    announce(f"simulating {len(plan)} nights, unless they exist")
    nights = [frames_of(one, size, folder) for one in plan]
    place = Path(tempfile.mkdtemp(prefix="season-", dir=folder))
    try:
        with site(place / "up", size, full=any(night.full for night in plan)) as one:
            if one.disk.problem:
                announce(f"no disk of its own, so it is never full: {one.disk.problem}")
            try:
                course = Season(one, seed).run(nights, budget)
                nights = nights[: len(course.seconds)]
                with quiet_site(place / "quiet", size) as quiet:
                    reduce_quietly(quiet, nights)
                    found = list(checks(one, quiet, nights, course))
            finally:
                if keep:
                    shutil.copytree(one.data / "logs", folder / f"logs-{seed}", dirs_exist_ok=True)
        found[0].detail["course"] = as_json(course)
        return found
    finally:
        shutil.rmtree(place, ignore_errors=True)


def main() -> int:
    """Run a season; return 1 if something that must hold does not."""
    parser = ArgumentParser(prog="python -m benchmarks.season", description=__doc__)
    parser.add_argument("--nights", type=int, default=30, help="nights of the season")
    parser.add_argument("--size", type=int, default=512, help="rows and columns of a frame")
    parser.add_argument(
        "--no-kills", action="store_true", help="kill no process, so that the growth of each can be judged"
    )
    parser.add_argument("--sample", action="store_true", help="two nights of 256 px")
    parser.add_argument(
        "--seed", type=int, help="seed of everything random; default: a new one, which is printed"
    )
    parser.add_argument("--budget", type=float, help="time after which no further night begins, min")
    parser.add_argument(
        "--folder", type=Path, default=default_folder(), help="folder of simulated nights, which are kept"
    )
    parser.add_argument("--logs", action="store_true", help="keep the logs of the service in that folder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    announce(f"seed {seed}")
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    before = machine() | {"seed": seed}
    size = 256 if options.sample else options.size
    plan = SAMPLE if options.sample else plan_season(seed, options.nights, kills=not options.no_kills)
    budget = None if options.budget is None else 60 * options.budget
    figures = season(plan, seed, size, folder, budget=budget, keep=options.logs)
    return show_figures(figures, before, json=options.json)


if __name__ == "__main__":
    sys.exit(main())
