"""Attempts to use up what a machine has. Each asks for a bounded amount, which a plain container
gives, and which is more than a session's limits allow.
"""
import os
import resource
import signal

from kernel import Refused, attack, refuse_unless

GROUP = "Exhaustion"
PROCESSES = 300
MEMORY_BYTES = 256 << 20
FILE_BYTES = 96 << 20
FILES = 30_000
DESCRIPTORS = 17_000
TERMINALS = 200


def count(limit, act):
    """How often something can be done, up to a limit."""
    for number in range(limit):
        try:
            act(number)
        except OSError as error:
            raise Refused(error.strerror) from None
    return f"has all {limit:,}"


@attack(GROUP)
def processes(at):
    """starts processes without end (300 with a limit of 100)"""

    def start(_):
        if os.fork() == 0:
            signal.alarm(20)
            signal.pause()
            os._exit(0)

    return count(PROCESSES, start)


@attack(GROUP)
def zombies(at):
    """leaves dead processes that nobody asks after (300 with a limit of 100)"""

    def start(_):
        if os.fork() == 0:
            os._exit(0)

    return count(PROCESSES, start)


@attack(GROUP)
def memory(at):
    """uses memory without end (256 MiB with a limit of 160 MiB)"""
    child = os.fork()
    if child == 0:
        taken = bytearray(MEMORY_BYTES)
        taken[::4096] = b"x" * len(taken[::4096])
        os._exit(0)
    _, status = os.waitpid(child, 0)
    refuse_unless(not os.WIFSIGNALED(status), "the kernel ends the process")
    refuse_unless(os.WEXITSTATUS(status) == 0, "there is no memory")
    return "has 256 MiB"


@attack(GROUP)
def space_in_tmp(at):
    """fills /tmp, which is memory (96 MiB)"""
    path = "/tmp/large"
    try:
        with open(path, "wb") as file:
            return count(FILE_BYTES >> 20, lambda _: file.write(b"x" * (1 << 20)) and file.flush())
    finally:
        os.unlink(path)


@attack(GROUP)
def files_in_tmp(at):
    """makes files without end in /tmp (30,000)"""
    os.makedirs("/tmp/many", exist_ok=True)
    try:
        return count(FILES, lambda number: os.mknod(f"/tmp/many/{number}"))
    finally:
        for name in os.listdir("/tmp/many"):
            os.unlink(f"/tmp/many/{name}")


@attack(GROUP)
def descriptors(at):
    """opens files without end (17,000 with a limit of 16,384)"""
    if at.control:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS + 100,) * 2)
        except ValueError:
            pass
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return count(DESCRIPTORS, lambda _: os.dup(0))


@attack(GROUP)
def terminals(at):
    """takes all terminals that the kernel has for containers (200)"""
    return count(TERMINALS, lambda _: os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
