"""Many short commands as one array, each in a sandbox of its own."""

from __future__ import annotations

import contextlib
import threading
import time

from harness.context import Context, say
from harness.figures import Goal, Result, Side, ratio
from harness.site import Site
from peers import hyperqueue
from peers.floor import Floor
from peers.slurm import FLAGS, Slurm, Tuning

TITLE = "An array of short commands"
METHOD = (
    "Seconds from the submission until all have ended, /bin/true each. Insula: every element "
    "in a sandbox of its own, its outcome, output and directory kept, every state committed; "
    "a new site for each round. HyperQueue and Slurm contain nothing; HyperQueue, here the "
    "library of PyPI, has no journal. The floor starts the same number of sandboxes by two "
    "processes, and commits nothing. What Insula, HyperQueue and the floor wrote is removed after "
    "the last round: for minutes, some file systems look at every file that was just removed "
    "whenever one is made. A ratio of rates is the inverse of the ratio of times: above 1 Insula "
    "is faster."
)
TASKS = 3_000


def measure(context: Context) -> Result:
    tasks = context.amount(TASKS, 100)
    ours: list[float] = []
    four: list[float] = []
    queue: list[float] = []
    written: list[float] = []
    slurm: list[float] = []
    floor: list[float] = []
    with contextlib.ExitStack() as homes:
        for number in range(context.rounds(10, 1)):
            say(f"array: round {number + 1}")
            ours.append(_insula(context, tasks, f"array-{number}", homes))
            queue.append(hyperqueue.array(context, tasks, f"bare-{number}", homes))
            floor.append(_floor(context, tasks, f"floor-{number}", homes))
            slurm.append(_slurm(context, tasks))
            written.append(hyperqueue.array(context, tasks, f"kept-{number}", homes, True))
            four.append(_insula(context, tasks, f"halves-{number}", homes, "--cpu", "0.5"))
    own = _side("Insula", f"insula run --no-env --array 1-{tasks} -- true (1 CPU each)", ours)
    bare = (
        f"{tasks} x Job.program(['/bin/true'], stdout=None, stderr=None), a worker with every CPU"
    )
    kept = f"{tasks} x Job.program(['/bin/true']), a file for each output, a worker with every CPU"
    batch = (
        f"sbatch --array=0-{tasks - 1} --output=/dev/null --wrap true "
        f"({FLAGS}; {Tuning.THROUGHPUT})"
    )
    half = _side(
        "Insula, half a CPU", f"insula run --no-env --cpu 0.5 --array 1-{tasks} -- true", four
    )
    rates = [
        ratio(
            "HyperQueue without output / Insula",
            _side("HyperQueue", bare, queue),
            own,
            Goal(">=", 0.7),
        ),
        ratio("Slurm / Insula", _side("Slurm", batch, slurm), own, Goal(">=", 5)),
        ratio("HyperQueue with output / Insula", _side("HyperQueue", kept, written), own),
        ratio("floor / Insula", _side("floor", "two floors, half of the starts each", floor), own),
        ratio("Insula / Insula with twice as many at a time", own, half),
    ]
    notes = [
        f"{tasks} commands; at best Insula {tasks / min(ours):.0f}/s, "
        f"HyperQueue {tasks / min(queue):.0f}/s, Slurm {tasks / min(slurm):.0f}/s, "
        f"the floor {tasks / min(floor):.0f}/s",
        "goal with prepared sandboxes: HyperQueue / Insula >= 1; where one start follows another "
        "there is no time to make any ahead",
    ]
    return Result("array", TITLE, METHOD, rates, notes)


def _side(name: str, command: str, values: list[float]) -> Side:
    return Side(name, command, "s", values)


def _insula(
    context: Context, tasks: int, name: str, homes: contextlib.ExitStack, *flags: str
) -> float:
    with Site(context, name, homes) as site:
        began = time.monotonic()
        site.call("run", "--no-env", *flags, "--array", f"1-{tasks}", "--", "true", limit_s=1800)
        return time.monotonic() - began


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
