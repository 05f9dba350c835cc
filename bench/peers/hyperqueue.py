"""HyperQueue: a server and one worker with every CPU, for one array at a time."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path

from harness.context import Context
from harness.files import remove_tree
from harness.packages import virtual_environment
from harness.processes import clean_environment, descendants, end, end_pids

REQUIREMENT = "hyperqueue"
_DRIVER = Path(__file__).with_name("hyperqueue_array.py")
_LIMIT_S = 1800


def array(
    context: Context,
    tasks: int,
    name: str,
    later: contextlib.ExitStack,
    keeps_output: bool = False,
) -> float:
    """Seconds from the submission until all tasks have ended; server and worker are warm. What was
    written is removed `later`: see Site."""
    python = virtual_environment(context, "hyperqueue", REQUIREMENT) / "bin" / "python"
    place = context.place(f"hyperqueue-{name}")
    later.callback(remove_tree, place)
    kept = "output" if keeps_output else "nothing"
    # Isolated: this file would be found in place of the package of its name.
    command = [str(python), "-I", str(_DRIVER), str(place), str(tasks), str(os.cpu_count()), kept]
    log = context.place("logs") / "hyperqueue.log"
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command,
            # The library leaves a directory where temporary ones go.
            env=clean_environment(TMPDIR=str(place)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            cwd=place,
        )
    try:
        answer, _ = process.communicate(timeout=_LIMIT_S)
        if process.returncode != 0:
            raise RuntimeError(f"HyperQueue: {log.read_text(errors='replace')[-2000:]}")
        return float(json.loads(answer.splitlines()[-1])["seconds"])
    finally:
        left = descendants(process.pid)
        end(process)
        end_pids(left)
