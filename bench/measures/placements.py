"""How many sessions the manager's core places on how many nodes, durably."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from harness.context import Context, Unavailable, say
from harness.figures import Figure, Goal, Result, Side
from harness.files import remove_tree
from harness.processes import run

TITLE = "Placements"
METHOD = (
    "`bench-placements`: the manager's core on one thread, bound to one CPU, and its store on "
    "another; each session is taken, placed and let out once its rows are on the disk. All queued "
    "at once; at half the rate that is aimed at; with fractions and gangs; and how much dearer a "
    "placement is on 50,000 nodes than on 500. There is no peer that does the same in one process."
)
PROGRAM = "bench-placements"


@dataclass
class Case:
    """One run of the program: its flags, and which number of its answer counts."""

    name: str
    flags: list[str]
    key: str
    unit: str
    goal: Goal
    values: list[float] = field(default_factory=list)


def measure(context: Context) -> Result:
    if not (context.executables / PROGRAM).exists():
        raise Unavailable(f"{PROGRAM} is not built")
    cases = _cases(context)
    for number in range(context.rounds(10, 1)):
        say(f"placements: round {number + 1}")
        for case in cases:
            case.values.append(_value(_run(context, case.flags), case.key))
    figures = [
        Figure(
            case.name,
            case.unit,
            case.values,
            case.goal,
            [Side("Insula", " ".join([PROGRAM, *case.flags]), case.unit, case.values)],
        )
        for case in cases
    ]
    return Result("placements", TITLE, METHOD, figures)


def _cases(context: Context) -> list[Case]:
    sessions = ["--core", "0", "--sessions", str(context.amount(50_000, 2_000))]
    size = [*sessions, "--nodes", str(context.amount(5_000, 200))]
    plain, gangs = [*size, "--shape", "plain"], [*size, "--shape", "fractional-gangs"]
    rate, late = "placements_per_second", "p99_ms"
    growth = [*sessions, "--growth", "--rounds", "1"]
    return [
        Case("plain, all queued", plain, rate, "/s", Goal(">=", 81_000)),
        Case(
            "plain, 40,500 a second: p99", [*plain, "--rate", "40500"], late, "ms", Goal("<=", 20)
        ),
        Case("fractions and gangs, all queued", gangs, rate, "/s", Goal(">=", 18_000)),
        Case("growth from 500 to 50,000 nodes", growth, "growth", "x", Goal("<=", 1.7)),
    ]


def _run(context: Context, flags: list[str]) -> dict[str, Any]:
    directory = context.place("placements")
    try:
        program = str(context.executable(PROGRAM))
        answer = run([program, *flags, "--directory", str(directory)], limit_s=900).stdout
        return dict(json.loads(answer))
    finally:
        remove_tree(directory)


def _value(answer: dict[str, Any], key: str) -> float:
    """At the top of the answer it is the median of the program's own rounds; here there is one."""
    for place in [answer, *answer.get("rounds", [])]:
        if isinstance(value := place.get(key), int | float):
            return float(value)
    raise RuntimeError(f"{PROGRAM} told no {key}: {json.dumps(answer)[:500]}")
