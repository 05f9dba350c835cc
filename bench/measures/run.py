"""What a user waits for: a command in a sandbox, from the shell and back."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness.context import Context
from harness.figures import Figure, Goal, Result, Side, ratio
from harness.native import watch
from harness.processes import LineServer
from harness.site import Site
from peers.docker import Docker
from peers.slurm import FLAGS, Slurm, Tuning

TITLE = "Running a command"
METHOD = (
    "Wall time of the client, spawned and reaped by `stopwatch.c`, with a warm daemon, 100 ms "
    "of pause before each run; the sides take turns. Insula keeps the session, its output and "
    "its record; `docker run --rm` keeps nothing; `srun` contains nothing."
)
PAUSE_S = 0.1


@dataclass
class Contestant:
    """One of those that take turns."""

    name: str
    flags: str
    server: LineServer
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def once(self) -> None:
        time.sleep(PAUSE_S)
        answer = self.server.ask()[0]
        self.wall.append(answer["wall_us"] / 1000)
        self.cpu.append((answer["user_us"] + answer["sys_us"]) / 1000)

    def side(self) -> Side:
        return Side(self.name, self.flags, "ms", self.wall)


def measure(context: Context) -> Result:
    with contextlib.ExitStack() as stack:
        contestants = _contestants(context, stack)
        for contestant in contestants:
            contestant.server.ask(2)
        for number in range(context.rounds(20, 3)):
            first = number % len(contestants)
            for contestant in contestants[first:] + contestants[:first]:
                contestant.once()
    return Result("run", TITLE, METHOD, _figures(*contestants))


def _contestants(context: Context, stack: contextlib.ExitStack) -> list[Contestant]:
    site = stack.enter_context(Site(context, "run"))
    docker = stack.enter_context(Docker(context))
    slurm = stack.enter_context(Slurm(context, Tuning.LATENCY))

    def contestant(
        name: str, flags: str, command: list[str | Path], environment: dict[str, str]
    ) -> Contestant:
        label = name.replace(" ", "-").replace("/", "-")
        server = stack.enter_context(watch(context, label, command, environment))
        return Contestant(name, flags, server)

    host = docker.run_command("busybox", "true", flags=["--network", "host"])
    return [
        contestant(
            "Insula",
            "insula run --no-env -- true (network of the host, as by default)",
            site.command("run", "--no-env", "--", "true"),
            site.environment,
        ),
        contestant(
            "docker",
            "docker run --rm busybox true (defaults of dockerd, overlay2, a bridge)",
            docker.run_command("busybox", "true"),
            docker.environment,
        ),
        contestant(
            "docker, host network",
            "docker run --rm --network host busybox true",
            host,
            docker.environment,
        ),
        contestant(
            "srun",
            f"srun true ({FLAGS}; {slurm.tuning})",
            ["srun", "true"],
            slurm.environment,
        ),
        contestant(
            "insula --version", "insula --version", site.command("--version"), site.environment
        ),
    ]


def _figures(
    ours: Contestant, docker: Contestant, host: Contestant, srun: Contestant, version: Contestant
) -> list[Figure]:
    note = "user and system time; the kernel counts it in ticks where it is not set up to do better"
    return [
        ratio("docker run / insula run", docker.side(), ours.side(), Goal(">=", 15)),
        ratio("docker run with the host's network / insula run", host.side(), ours.side()),
        ratio("srun / insula run", srun.side(), ours.side(), Goal(">=", 2)),
        Figure("CPU time of insula --version", "ms", version.cpu, Goal("<=", 10), note=note),
        Figure("CPU time of insula run, client only", "ms", ours.cpu, note=note),
    ]
