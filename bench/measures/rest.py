"""What idle sessions cost: the daemon, its launcher, and each guest."""

from __future__ import annotations

import contextlib
import os
import time

from harness.context import Context, say
from harness.figures import Figure, Goal, Result, Side
from harness.memory import proportional, resident
from harness.processes import stat_of
from harness.site import Site

TITLE = "At rest"
METHOD = (
    "100 sessions of `sleep infinity`, five seconds of quiet, then CPU time over 20 seconds "
    "and memory at their end. Pss counts a shared page in parts. A value of the guests is of "
    "one guest."
)
SESSIONS = 100
FLAGS = ["--detach", "--no-env", "--cpu", "0.01", "--memory", "16MB", "--", "sleep", "infinity"]
QUIET_S = 5
MIB = 2**20


def measure(context: Context) -> Result:
    sessions = context.amount(SESSIONS, 10)
    seconds = context.amount(20, 5)
    found: dict[str, list[float]] = {"pss": [], "rss": [], "cpu": [], "guest": [], "guests_cpu": []}
    with contextlib.ExitStack() as homes:
        for number in range(context.rounds(10, 1)):
            say(f"rest: round {number + 1}")
            with Site(context, f"rest-{number}", homes) as site:
                _round(site, sessions, seconds, found)
    side = Side("Insula", f"{sessions} x insula run {' '.join(FLAGS)}", "MiB", found["pss"])
    figures = [
        Figure("daemon and launcher, Pss", "MiB", found["pss"], Goal("<=", 60), [side]),
        Figure("daemon and launcher, resident", "MiB", found["rss"], Goal("<=", 60)),
        Figure("daemon and launcher, CPU of one core", "%", found["cpu"], Goal("<=", 0.5)),
        Figure("all guests together, CPU of one core", "%", found["guests_cpu"]),
        Figure("a guest, Pss", "MiB", found["guest"], Goal("<=", 1)),
    ]
    return Result("rest", TITLE, METHOD, figures)


def _round(site: Site, sessions: int, seconds: int, found: dict[str, list[float]]) -> None:
    for _ in range(sessions):
        site.call("run", *FLAGS)
    time.sleep(QUIET_S)
    guests = site.guests()
    if len(guests) != sessions:
        raise RuntimeError(f"{len(guests)} guests of {sessions} sessions")
    # With what waits for whoever comes next.
    platform = [site.pid, *site.launchers(), *site.ahead()]
    before = _cpu_s(platform), _cpu_s(guests)
    began = time.monotonic()
    time.sleep(seconds)
    after = _cpu_s(platform), _cpu_s(guests)
    elapsed = time.monotonic() - began
    found["cpu"].append((after[0] - before[0]) / elapsed * 100)
    found["guests_cpu"].append((after[1] - before[1]) / elapsed * 100)
    found["pss"].append(sum(map(proportional, platform)) / MIB)
    found["rss"].append(sum(map(resident, platform)) / MIB)
    found["guest"].extend(proportional(guest) / MIB for guest in guests)


def _cpu_s(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = stat_of(pid)
        if not fields:
            raise RuntimeError(f"process {pid} has ended")
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
