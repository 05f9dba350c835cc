"""What a library does that believes in 52 CPUs, where it may use one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from harness.context import Context, say
from harness.figures import Figure, Goal, Result, Side, ratio
from harness.native import cpus52
from harness.packages import PYTHON, virtual_environment
from harness.processes import run
from harness.site import Site
from peers.docker import Docker

TITLE = "The truth about CPUs"
METHOD = (
    "`numpy.linalg.eigvals` of a matrix of 500 x 500 with a quota of one CPU; seconds inside "
    "the program, without its start. The picture of 52 CPUs is a library loaded before all "
    "others (`cpus52.c`), since this machine has fewer. It is what a container with a quota "
    "shows on a machine of 52. In a session of Insula the variables that libraries read say "
    "one. The last side takes them away and gives the picture instead: the effect is the "
    "picture's. A control takes half a minute and more."
)
PROGRAM = Path(__file__).with_name("truth_program.py")
VARIABLES = [
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
]


def measure(context: Context) -> Result:
    environment = virtual_environment(context, "numpy", "numpy")
    library = cpus52(context)
    size = str(context.amount(500, 200))
    program = context.place("truth") / "program.py"
    program.write_bytes(PROGRAM.read_bytes())
    inside = [str(environment / "bin" / "python"), str(program), size]
    preload = [f"LD_PRELOAD={library}"]
    without = [word for name in VARIABLES for word in ("-u", name)]
    # The very same directories are read in both kinds of containers.
    shown = [environment, program.parent, library.parent]
    with contextlib.ExitStack() as stack:
        site = stack.enter_context(Site(context, "truth"))
        docker = stack.enter_context(Docker(context))

        def ours(*words: str) -> dict[str, float]:
            mounts = [word for path in shown for word in ("--mount", f"{path}:{path}:ro")]
            flags = ["--no-env", "--cpu", "1", *mounts]
            said = site.call("run", *flags, "--", *words, *inside, limit_s=900)
            return dict(json.loads(said))

        def control(*words: str) -> dict[str, float]:
            paths = [Path("/usr"), Path(PYTHON).parent.parent, *shown]
            mounts = [word for path in dict.fromkeys(paths) for word in ("-v", f"{path}:{path}:ro")]
            command = docker.run_command("system", *words, *inside, flags=["--cpus", "1", *mounts])
            return dict(json.loads(run(command, docker.environment, 900).stdout))

        sides: dict[str, Callable[[], dict[str, float]]] = {
            "Insula": ours,
            "docker, 52 CPUs shown": lambda: control("/usr/bin/env", *preload),
            "docker, this machine shown": control,
            "Insula, 52 CPUs shown": lambda: ours("/usr/bin/env", *preload),
            "Insula, 52 CPUs shown, variables away": lambda: ours(
                "/usr/bin/env", *without, *preload
            ),
        }
        found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        for number in range(context.rounds(10, 1)):
            say(f"truth: round {number + 1}")
            for name, side in sides.items():
                found[name].append(side())
    return Result("truth", TITLE, METHOD, _figures(found), _notes(found))


def _figures(found: dict[str, list[dict[str, float]]]) -> list[Figure]:
    commands = {
        "Insula": "insula run --cpu 1 -- python program.py",
        "docker, 52 CPUs shown": "docker run --cpus 1, LD_PRELOAD=cpus52.so",
        "docker, this machine shown": "docker run --cpus 1",
        "Insula, 52 CPUs shown": "insula run --cpu 1 -- env LD_PRELOAD=cpus52.so python program.py",
        "Insula, 52 CPUs shown, variables away": "the same with env -u OMP_NUM_THREADS and its kin",
    }
    sides = {
        name: Side(name, command, "s", [each["seconds"] for each in found[name]])
        for name, command in commands.items()
    }
    own = sides["Insula"]
    figures = [
        ratio(
            "docker with 52 CPUs shown / Insula",
            sides["docker, 52 CPUs shown"],
            own,
            Goal(">=", 10),
        )
    ]
    for name in list(sides)[2:]:
        figures.append(ratio(f"{name} / Insula", sides[name], own))
    return figures


def _notes(found: dict[str, list[dict[str, float]]]) -> list[str]:
    told = [
        f"{name}: os.cpu_count() {each[0]['cpus']:.0f}, {each[0]['threads']:.0f} threads"
        for name, each in found.items()
    ]
    return ["; ".join(told)]
