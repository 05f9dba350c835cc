"""Slurm on this machine: munged, slurmctld and slurmd, tuned for latency or for throughput."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from enum import Enum

from harness.context import Context, say
from harness.files import remove_tree
from harness.packages import need
from harness.processes import clean_environment, descendants, end, end_pids, eventually, run, start

# Programs that look names up want an address that is not the loopback's.
BRIDGE = "insbench0"
ADDRESS = "10.231.77.1"
_POLL_S = 0.2


class Tuning(Enum):
    """What the scheduler is set for: its parameters, and how many CPUs the node claims to have.

    A pass of the scheduler fills the node, and the next one is a second later: with two CPUs it
    starts two jobs a second, however short they are. For throughput the node claims more.
    """

    LATENCY = ("batch_sched_delay=0", os.cpu_count())
    THROUGHPUT = ("batch_sched_delay=0,default_queue_depth=1000,partition_job_depth=0", 64)

    @property
    def parameters(self) -> str:
        """SchedulerParameters."""
        return str(self.value[0])

    def __str__(self) -> str:
        return f"{self.parameters}; {self.value[1]} CPUs"


FLAGS = (
    "one node, select/cons_tres with CR_CPU, sched/builtin, proctrack/linuxproc, no "
    "task plugin, no accounting, no job completion log, PropagateResourceLimits=NONE, "
    "EpilogMsgTime=0, errors logged only: jobs are not contained in anything"
)


class Slurm:
    """`with Slurm(context, Tuning.LATENCY) as slurm:` has an idle node."""

    def __init__(self, context: Context, tuning: Tuning) -> None:
        self.tuning = tuning
        for program, package in [
            ("munged", "munge"),
            ("slurmctld", "slurmctld"),
            ("slurmd", "slurmd"),
            ("srun", "slurm-client"),
            ("ip", "iproute2"),
        ]:
            need(program, package)
        self._place = context.place(f"slurm-{tuning.name.lower()}")
        self._logs = context.place("logs")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._made_bridge = False
        self.node = socket.gethostname().split(".")[0]
        self.environment = clean_environment(SLURM_CONF=str(self._place / "slurm.conf"))

    def __enter__(self) -> Slurm:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            left = descendants(process.pid)
            end(process)
            end_pids(left)
        self._processes.clear()
        if self._made_bridge:
            subprocess.run(["ip", "link", "delete", BRIDGE], check=False)
            self._made_bridge = False
        try:
            remove_tree(self._place)
        except (RuntimeError, OSError) as error:
            say(f"slurm's files stay: {error}")

    def _start(self) -> None:
        # One that is there is left from a run that was killed.
        subprocess.run(["ip", "link", "delete", BRIDGE], stderr=subprocess.DEVNULL, check=False)
        run(["ip", "link", "add", BRIDGE, "type", "bridge"])
        self._made_bridge = True
        run(["ip", "address", "add", f"{ADDRESS}/30", "dev", BRIDGE])
        run(["ip", "link", "set", BRIDGE, "up"])
        for name in ["state", "spool"]:
            (self._place / name).mkdir(exist_ok=True)
        self._start_munge()
        self._write_configuration()
        self._daemon("slurmctld", "-D", "-i")
        self._daemon("slurmd", "-D", "-N", self.node)
        eventually("the node is idle", self._is_idle)

    def _start_munge(self) -> None:
        place = self._place / "munge"
        place.mkdir(exist_ok=True)
        place.chmod(0o711)
        key = place / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self._daemon(
            *["munged", "--foreground", "--force", f"--socket={place}/socket", f"--key-file={key}"],
            *[f"--pid-file={place}/pid", f"--log-file={place}/log", f"--seed-file={place}/seed"],
        )
        eventually("munged listens", (place / "socket").exists)

    def _daemon(self, *command: str) -> None:
        log = self._logs / f"{command[0]}-{self.tuning.name.lower()}.log"
        program = need(command[0])
        self._processes.append(start([program, *command[1:]], log, self.environment))

    def _write_configuration(self) -> None:
        place, node = self._place, self.node
        port, agent_port = _free_ports()
        settings = {
            "ClusterName": "insulabench",
            "SlurmctldHost": f"{node}({ADDRESS})",
            "SlurmctldPort": port,
            "SlurmdPort": agent_port,
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={place}/munge/socket",
            "CredType": "cred/munge",
            "SlurmUser": "root",
            "SlurmdUser": "root",
            "StateSaveLocation": place / "state",
            "SlurmdSpoolDir": place / "spool",
            "SlurmctldPidFile": place / "slurmctld.pid",
            "SlurmdPidFile": place / "slurmd.pid",
            "SlurmctldDebug": "error",
            "SlurmdDebug": "error",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/none",
            "AccountingStorageType": "accounting_storage/none",
            "JobCompType": "jobcomp/none",
            "MpiDefault": "none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_CPU",
            "SchedulerType": "sched/builtin",
            "SchedulerParameters": self.tuning.parameters,
            "SlurmdParameters": "config_overrides",
            "PropagateResourceLimits": "NONE",
            "EpilogMsgTime": 0,
            "MaxJobCount": 50_000,
            "MaxArraySize": 10_001,
            "MinJobAge": 2,
            "MessageTimeout": 60,
            "ReturnToService": 2,
        }
        lines = [f"{key}={value}" for key, value in settings.items()]
        lines.append(
            f"NodeName={node} NodeHostname={node} NodeAddr={ADDRESS} "
            f"CPUs={self.tuning.value[1]} State=UNKNOWN"
        )
        lines.append(f"PartitionName=all Nodes={node} Default=YES MaxTime=INFINITE State=UP")
        (place / "slurm.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _is_idle(self) -> bool:
        for process in self._processes:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            answer = run(["sinfo", "-h", "-o", "%T"], self.environment, limit_s=30)
        except (RuntimeError, subprocess.TimeoutExpired):
            return False
        return answer.stdout.strip() == "idle"

    def array(self, tasks: int) -> float:
        """Seconds from the submission of an array until nothing of it waits or runs."""
        began = time.monotonic()
        submit = ["sbatch", "--parsable", f"--array=0-{tasks - 1}", "--output=/dev/null"]
        job = run([*submit, "--wrap", "true"], self.environment, cwd="/").stdout.strip()
        say(f"slurm runs job {job}")
        while self._is_busy():
            time.sleep(_POLL_S)
        return time.monotonic() - began

    def _is_busy(self) -> bool:
        command = ["squeue", "-h", "-t", "PENDING,CONFIGURING,RUNNING,COMPLETING", "-o", "%A"]
        return bool(run(command, self.environment).stdout.strip())


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind((ADDRESS, 0))
        other.bind((ADDRESS, 0))
        return one.getsockname()[1], other.getsockname()[1]
