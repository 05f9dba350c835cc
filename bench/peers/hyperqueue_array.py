"""Runs in HyperQueue's own virtual environment: one array, and prints its seconds.

usage: hyperqueue_array.py DIRECTORY TASKS CPUS output|nothing

What PyPI has is the library with server and worker inside, which this program starts. It looks once
a second whether a job has ended; here it is made to look more often.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from hyperqueue import Job, LocalCluster
from hyperqueue.client import Client
from hyperqueue.cluster import WorkerConfig
from hyperqueue.job import SubmittedJob


LOOK_S = 0.05


class Lives(Exception):
    """The job has not ended."""


def look(jobs: dict[int, dict[str, object]]) -> None:
    """Called by the library after each of its looks, before it waits for a second."""
    if not all(state["completed"] for state in jobs.values()):
        raise Lives


def await_end(client: Client, submitted: SubmittedJob) -> None:
    """Returns within LOOK_S of the end of the job."""
    while True:
        try:
            failed = client.connection.wait_for_jobs((submitted.id,), look)
        except Lives:
            time.sleep(LOOK_S)
            continue
        if failed:
            raise RuntimeError(f"tasks failed: {client.get_failed_tasks(submitted)}")
        return


def job(directory: Path, tasks: int, keeps_output: bool) -> Job:
    """Tasks of /bin/true, with a file for each output or with none."""
    made = Job(default_workdir=directory, max_fails=None)
    streams = {} if keeps_output else {"stdout": None, "stderr": None}
    for _ in range(tasks):
        made.program(["/bin/true"], **streams)
    return made


def main() -> None:
    directory, tasks, cpus = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    keeps_output = sys.argv[4] == "output"
    with LocalCluster(str(directory), WorkerConfig(cores=cpus)) as cluster:
        client = cluster.client()
        client.wait_for_jobs([client.submit(job(directory, 10, keeps_output))])
        array = job(directory, tasks, keeps_output)
        began = time.monotonic()
        await_end(client, client.submit(array))
        print(json.dumps({"seconds": time.monotonic() - began}))


main()
