"""Many short commands as one array, each in a sandbox of its own."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.context import Context, say
from harness.figures import Figure, Goal, Result, Side, ratio
from harness.site import Site
from peers import hyperqueue
from peers.floor import Floor
from peers.slurm import FLAGS, Slurm, Tuning

TITLE = "An array of short commands"
METHOD = (
    "Seconds from the submission until all have ended, /bin/true each. Insula: every element "
    "in a sandbox of its own, its outcome, output and directory kept, every state committed; "
    "a new site for each round. By default it makes no sandboxes ahead while starts keep every CPU "
    'busy; *prepared* is with `make-ahead = "always"`, where the elements take as many as there '
    'is time to make, and *cold* with `"never"`. HyperQueue and Slurm contain nothing; '
    "HyperQueue, here the library of PyPI, has no journal; it is asked every 50 ms whether all have "
    "ended. The floor starts the same number of sandboxes by two processes, and commits nothing. "
    "What Insula, HyperQueue and the floor wrote is removed after "
    "the last round: for minutes, some file systems look at every file that was just removed "
    "whenever one is made. A ratio of rates is the inverse of the ratio of times: above 1 Insula "
    "is faster."
)
TASKS = 3_000
_AHEAD = '[node]\nmake-ahead = "{}"\n'
# What the daemon's last words say of containers that were made ahead.
_COUNTS = re.compile(r"\bmade=(\d+) taken=(\d+)\b")


@dataclass
class Times:
    """Seconds of each round, side by side, and how many elements took what was made ahead."""

    ours: list[float] = field(default_factory=list)
    prepared: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    four: list[float] = field(default_factory=list)
    queue: list[float] = field(default_factory=list)
    written: list[float] = field(default_factory=list)
    slurm: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    taken: dict[str, list[int]] = field(default_factory=lambda: {"auto": [], "always": []})


def measure(context: Context) -> Result:
    tasks = context.amount(TASKS, 100)
    times = Times()
    with contextlib.ExitStack() as homes:
        for number in range(context.rounds(10, 1)):
            say(f"array: round {number + 1}")
            _round(context, tasks, number, homes, times)
    return Result("array", TITLE, METHOD, _figures(tasks, times), _notes(tasks, times))


def _round(
    context: Context, tasks: int, number: int, homes: contextlib.ExitStack, times: Times
) -> None:
    def ours(ahead: str) -> float:
        """On a site that makes sandboxes ahead, or never: then it must have made none."""
        site = Site(context, f"{ahead}-{number}", homes, _AHEAD.format(ahead))
        seconds = _insula(site, tasks)
        made, taken = _made_and_taken(site)
        if ahead in times.taken:
            times.taken[ahead].append(taken)
        elif made:
            raise RuntimeError(f"{made} sandboxes were made ahead though none was to be")
        return seconds

    def bare(name: str, keeps_output: bool = False) -> float:
        return hyperqueue.array(context, tasks, f"{name}-{number}", homes, keeps_output)

    def halves() -> float:
        return _insula(Site(context, f"halves-{number}", homes), tasks, "--cpu", "0.5")

    turns: list[tuple[list[float], Callable[[], float]]] = [
        (times.ours, lambda: ours("auto")),
        (times.queue, lambda: bare("bare")),
        (times.prepared, lambda: ours("always")),
        (times.cold, lambda: ours("never")),
        (times.floor, lambda: _floor(context, tasks, f"floor-{number}", homes)),
        (times.slurm, lambda: _slurm(context, tasks)),
        (times.written, lambda: bare("kept", keeps_output=True)),
        (times.four, halves),
    ]
    # Another one begins each time, and each follows another one every second time.
    first = number % len(turns)
    order = turns[first:] + turns[:first]
    for values, measured in order if number % 2 == 0 else reversed(order):
        values.append(measured())


def _figures(tasks: int, times: Times) -> list[Figure]:
    command = f"insula run --no-env --array 1-{tasks} -- true"
    own = _side("Insula", f"{command} (1 CPU each)", times.ours)
    prepared = _side(
        "Insula prepared", "the same on a site with make-ahead = always", times.prepared
    )
    cold = _side("Insula cold", "the same on a site with make-ahead = never", times.cold)
    half = _side(
        "Insula, half a CPU", f"insula run --no-env --cpu 0.5 --array 1-{tasks} -- true", times.four
    )
    bare = _side(
        "HyperQueue",
        f"{tasks} x Job.program(['/bin/true'], stdout=None, stderr=None), a worker with every CPU",
        times.queue,
    )
    kept = _side(
        "HyperQueue with output",
        f"{tasks} x Job.program(['/bin/true']), a file for each output, a worker with every CPU",
        times.written,
    )
    slurm = _side(
        "Slurm",
        f"sbatch --array=0-{tasks - 1} --output=/dev/null --wrap true "
        f"({FLAGS}; {Tuning.THROUGHPUT})",
        times.slurm,
    )
    floor = _side("floor", "two floors, half of the starts each", times.floor)
    return [
        ratio("HyperQueue without output / Insula", bare, own),
        ratio("HyperQueue without output / Insula prepared", bare, prepared, Goal(">=", 1)),
        ratio("HyperQueue without output / Insula cold", bare, cold, Goal(">=", 0.7)),
        ratio("Slurm / Insula", slurm, own, Goal(">=", 5)),
        ratio("HyperQueue with output / Insula", kept, own),
        ratio("floor / Insula", floor, own),
        ratio("Insula prepared / Insula", prepared, own),
        ratio("Insula / Insula with twice as many at a time", own, half),
        *(
            Figure(
                f"elements that took a sandbox made ahead, make-ahead = {ahead}",
                "%",
                [100 * one / tasks for one in taken],
            )
            for ahead, taken in times.taken.items()
        ),
    ]


def _notes(tasks: int, times: Times) -> list[str]:
    best = {
        "Insula": times.ours,
        "Insula prepared": times.prepared,
        "Insula cold": times.cold,
        "HyperQueue": times.queue,
        "Slurm": times.slurm,
        "the floor": times.floor,
    }
    rates = ", ".join(f"{name} {tasks / min(values):.0f}/s" for name, values in best.items())
    return [f"{tasks} commands; at best {rates}"]


def _side(name: str, command: str, values: list[float]) -> Side:
    return Side(name, command, "s", values)


def _insula(site: Site, tasks: int, *flags: str) -> float:
    with site:
        began = time.monotonic()
        site.call("run", "--no-env", *flags, "--array", f"1-{tasks}", "--", "true", limit_s=1800)
        return time.monotonic() - began


def _made_and_taken(site: Site) -> tuple[int, int]:
    """How many sandboxes a site that has ended made ahead, and how many of these sessions took."""
    log = site.home / "daemon.log"
    found = _COUNTS.findall(log.read_text(encoding="utf-8"))
    if len(found) != 1:
        raise RuntimeError(f"{log} tells {len(found)} times what was made ahead")
    made, taken = found[0]
    return int(made), int(taken)


def _slurm(context: Context, tasks: int) -> float:
    with Slurm(context, Tuning.THROUGHPUT) as slurm:
        return slurm.array(tasks)


def _floor(context: Context, tasks: int, name: str, homes: contextlib.ExitStack) -> float:
    with contextlib.ExitStack() as stack:
        places = [context.place(f"{name}-{n}") for n in range(2)]
        floors = [stack.enter_context(Floor(context, place, homes)) for place in places]
        for floor in floors:
            floor.ask()
        threads = [threading.Thread(target=floor.ask, args=(tasks // 2,)) for floor in floors]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic() - began
