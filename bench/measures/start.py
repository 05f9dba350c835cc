"""From asking for a sandbox to nothing of it being left, with /bin/true inside."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.context import Context, say
from harness.figures import Figure, Goal, Result, Side, ratio
from harness.files import remove_groups, remove_tree
from harness.processes import LineServer, clean_environment
from peers import oci
from peers.floor import Floor

TITLE = "Starting a sandbox"
METHOD = (
    "From the request to the end of /bin/true and the removal of its groups, network and "
    "mounts. *Isolated*: 100 ms of pause before each start, which is what a user does. *Back "
    "to back*: bursts without a pause, the time of one being its share of the burst. A site "
    "makes the sandbox that is likely to be asked for next ahead, up to where its session must be "
    "known, and lets go of the mounts of one that ended a few milliseconds later; *cold* is "
    "what it takes when nothing was made ahead. Insula and the floor write to the working directory, "
    "as a site does to its own; runc and crun to memory, as they do by default. The sides take "
    "turns, and a ratio is of neighbours. The floor is a C program (`floor.c`) that makes the same "
    "sandbox by direct system calls. runc and crun have no guest, no logs and no exit record."
)
PAUSE_S = 0.1
BURST = 10
OURS = (
    "bench-start --ahead: the sandbox of a session, 1 CPU, 256 MiB, 64 processes, own network; the "
    "next one is made ahead while there is time, as on a site"
)
COLD = "bench-start: the same, nothing made ahead"
FLOOR = "floor: the same namespaces, groups, limits, mounts and masks, a filter of 300 rules, PID 1"


@dataclass
class Contestant:
    """One of those that take turns."""

    name: str
    flags: str
    server: LineServer
    whole: str
    ended: str | None = None
    isolated: list[float] = field(default_factory=list)
    isolated_ended: list[float] = field(default_factory=list)
    burst: list[float] = field(default_factory=list)

    def once(self) -> None:
        time.sleep(PAUSE_S)
        answer = self.server.ask()[0]
        self.isolated.append(answer[self.whole] / 1000)
        if self.ended:
            self.isolated_ended.append(answer[self.ended] / 1000)

    def many(self) -> None:
        answers = self.server.ask(BURST)
        self.burst.append(sum(answer[self.whole] for answer in answers) / BURST / 1000)


def measure(context: Context) -> Result:
    with contextlib.ExitStack() as stack:
        contestants = _contestants(context, stack)
        for contestant in contestants:
            contestant.server.ask(2)
        say("start: isolated")
        _take_turns(contestants, context.rounds(40, 3), Contestant.once)
        say("start: back to back")
        _take_turns(contestants, context.rounds(12, 2), Contestant.many)
    return Result("start", TITLE, METHOD, _figures(contestants))


def _contestants(context: Context, stack: contextlib.ExitStack) -> list[Contestant]:
    for name in ["runc", "crun"]:
        stack.callback(remove_groups, f"insula-bench-{name}")
        stack.callback(remove_tree, oci.state(name))
    log = context.place("logs") / "bench-start.log"
    program = context.executable("bench-start")
    environment = clean_environment(TMPDIR=str(context.place("start")))
    ours = stack.enter_context(LineServer([program, "--ahead", "/bin/true"], log, environment))
    cold = stack.enter_context(LineServer([program, "/bin/true"], log, environment))
    floor = stack.enter_context(Floor(context, context.place("floor")))
    runc = stack.enter_context(oci.runc(context))
    crun = stack.enter_context(oci.crun(context))
    return [
        Contestant("Insula", OURS, ours, "removed_us", "ended_us"),
        Contestant("Insula cold", COLD, cold, "removed_us", "ended_us"),
        Contestant("floor", FLOOR, floor, "removed_us", "ended_us"),
        Contestant("runc", f"runc run: {oci.FLAGS}", runc, "wall_us"),
        Contestant("crun", f"crun run: {oci.FLAGS}", crun, "wall_us"),
    ]


def _take_turns(
    contestants: list[Contestant], rounds: int, act: Callable[[Contestant], None]
) -> None:
    for number in range(rounds):
        first = number % len(contestants)
        for contestant in contestants[first:] + contestants[:first]:
            act(contestant)


def _figures(contestants: list[Contestant]) -> list[Figure]:
    goals = {
        ("runc", "isolated"): Goal(">=", 7),
        ("runc", "burst"): Goal(">=", 6),
        ("crun", "isolated"): Goal(">=", 2),
        ("crun", "burst"): Goal(">=", 2),
        ("floor", "isolated"): Goal(">=", 0.7),
        ("floor", "burst"): Goal(">=", 0.7),
    }
    ours, cold, *others = contestants
    figures = []
    for kind, words in [("isolated", "isolated"), ("burst", "back to back")]:
        for own in [ours, cold]:
            own_side = Side(f"{own.name}, {words}", own.flags, "ms", getattr(own, kind))
            for other in others:
                side = Side(f"{other.name}, {words}", other.flags, "ms", getattr(other, kind))
                goal = goals[(other.name, kind)]
                figures.append(ratio(f"{other.name} / {own.name}, {words}", side, own_side, goal))
    for one in [ours, cold, others[0]]:
        figures.append(Figure(f"{one.name}: command ended, isolated", "ms", one.isolated_ended))
    return figures
