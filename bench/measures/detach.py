"""A burst of small sessions: how long until each runs."""

from __future__ import annotations

import contextlib
import datetime
import statistics
import subprocess
import time

from harness.context import Context, say
from harness.figures import Figure, Goal, Result, Side
from harness.site import Site

TITLE = "A burst of sessions"
METHOD = (
    "`insula run --detach` many times at once, by as many processes. From the session's own "
    "record: `created_at`, when the request was durable, to `started_at`, when the command "
    "ran; beside it the time from the spawn of its client. All must run at the same time. A "
    "value is the 99th percentile of a round; ten rounds unless --rounds says otherwise."
)
SESSIONS = 200
FLAGS = ["--detach", "--no-env", "--cpu", "0.01", "--memory", "16MB", "--", "sleep", "60"]
LIMIT_S = 120


def measure(context: Context) -> Result:
    sessions = context.amount(SESSIONS, 20)
    recorded: list[float] = []
    whole: list[float] = []
    launched: list[float] = []
    clients: list[float] = []
    notes = []
    with contextlib.ExitStack() as homes:
        for number in range(context.rounds(10, 1)):
            say(f"detach: round {number + 1}")
            with Site(context, f"detach-{number}", homes) as site:
                one = _burst(site, sessions)
            recorded.append(_percentile(one["recorded"]))
            whole.append(_percentile(one["whole"]))
            launched.append(one["launched"][0])
            clients.append(one["clients"][0])
            if one["failed"] or len(one["recorded"]) != sessions:
                notes.append(
                    f"round {number + 1}: {len(one['recorded'])} of {sessions} ran, "
                    f"{len(one['failed'])} clients failed"
                )
    command = f"{sessions} x insula run {' '.join(FLAGS)}"
    notes.append(
        f"all clients were spawned within {max(launched):.2f} s, "
        f"and had ended within {max(clients):.2f} s"
    )
    side = Side("Insula", command, "s", recorded)
    goal = Goal("<=", 5)
    figures = [
        Figure("p99 from submission to running", "s", recorded, goal, [side]),
        Figure("p99 from the client's spawn to running", "s", whole),
    ]
    return Result("detach", TITLE, METHOD, figures, notes)


def _percentile(values: list[float]) -> float:
    return (
        statistics.quantiles(values, n=100, method="inclusive")[98]
        if len(values) > 1
        else float("nan")
    )


def _burst(site: Site, sessions: int) -> dict[str, list[float]]:
    began = time.time()
    spawned: dict[str, float] = {}
    clients = []
    for number in range(sessions):
        name = f"burst-{number}"
        command = [str(word) for word in site.command("run", "--name", name, *FLAGS)]
        spawned[name] = time.time()
        clients.append(
            subprocess.Popen(
                command,
                env=site.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        )
    launched = time.time() - began
    failed = []
    for client in clients:
        _, errors = client.communicate(timeout=LIMIT_S)
        if client.returncode != 0:
            say(errors.decode(errors="replace").strip())
            failed.append(float(client.returncode))
    ended = time.time() - began
    records = _running(site, sessions - len(failed))
    return {
        "recorded": [
            _seconds(each["started_at"]) - _seconds(each["created_at"]) for each in records
        ],
        "whole": [_seconds(each["started_at"]) - spawned[each["name"]] for each in records],
        "launched": [launched],
        "clients": [ended],
        "failed": failed,
    }


def _running(site: Site, wanted: int) -> list[dict[str, str]]:
    deadline = time.monotonic() + LIMIT_S
    while True:
        sessions = site.sessions()
        running = [each for each in sessions if each["state"] == "running"]
        if len(running) >= wanted or time.monotonic() > deadline:
            return running
        time.sleep(0.5)


def _seconds(moment: str) -> float:
    return datetime.datetime.fromisoformat(moment).timestamp()
