"""Rights that a container must not have: capabilities, system calls, files of the kernel, and power
over the guest that holds it together.
"""
import ctypes
import errno
import fcntl
import mmap
import os
import pty
import shutil
import signal
import struct
import subprocess
import time

from kernel import Impossible, Refused, attack, call, mount, refuse_unless, text

NEWNS = 0x20000
BIND, REMOUNT = 0x1000, 0x20
CAPABILITIES = "Capabilities"
CALLS = "System calls"
KERNEL = "Files of the kernel"
GUEST = "The guest"
# By number: see capabilities(7).
DANGEROUS = {
    2: "DAC_READ_SEARCH",
    9: "LINUX_IMMUTABLE",
    12: "NET_ADMIN",
    13: "NET_RAW",
    16: "SYS_MODULE",
    17: "SYS_RAWIO",
    19: "SYS_PTRACE",
    20: "SYS_PACCT",
    21: "SYS_ADMIN",
    22: "SYS_BOOT",
    23: "SYS_NICE",
    24: "SYS_RESOURCE",
    25: "SYS_TIME",
    27: "MKNOD",
    34: "SYSLOG",
    38: "PERFMON",
    39: "BPF",
    40: "CHECKPOINT_RESTORE",
}


@attack(CAPABILITIES)
def dangerous_capabilities(at):
    """has, or can get, a capability that rules the machine"""
    sets = [line.split()[1] for line in text("/proc/self/status").splitlines() if line[:3] == "Cap"]
    held = 0
    for one in sets:
        held |= int(one, 16)
    names = [name for number, name in DANGEROUS.items() if held >> number & 1]
    refuse_unless(names, "it has none of them in any set")
    return f"has {len(names)} of {len(DANGEROUS)}"


@attack(CAPABILITIES)
def mount_something(at):
    """mounts a file system (SYS_ADMIN)"""
    mount(b"none", b"/tmp", b"tmpfs")


@attack(CAPABILITIES)
def mount_in_the_new_way(at):
    """mounts by the newer calls (fsopen, open_tree, move_mount)"""
    os.close(call(430, b"tmpfs", 0))
    os.close(call(428, -100, b"/usr", 1))


@attack(CAPABILITIES)
def uncover(at):
    """takes away what covers files (umount)"""
    call(166, at.places["cover"].encode(), 2)


@attack(CAPABILITIES)
def make_writable(at):
    """makes a read-only mount writable (remount)"""
    mount(None, b"/usr", None, REMOUNT | BIND)
    refuse_unless(not os.statvfs("/usr").f_flag & os.ST_RDONLY, "it stays read-only")


@attack(CAPABILITIES)
def change_the_root(at):
    """makes another directory the root (pivot_root)"""
    try:
        call(272, NEWNS)
    except OSError:
        if at.control:
            raise
    os.makedirs("/tmp/new", exist_ok=True)
    try:
        mount(b"none", b"/tmp/new", b"tmpfs")
        os.makedirs("/tmp/new/old")
    except OSError:
        if at.control:
            raise
    call(155, b"/tmp/new", b"/tmp/new/old")


@attack(CAPABILITIES)
def ports(at):
    """speaks to the machine's ports (iopl: SYS_RAWIO)"""
    call(172, 3)


@attack(CAPABILITIES)
def kernel_log(at):
    """reads the kernel's log (SYSLOG)"""
    buffer = ctypes.create_string_buffer(4096)
    call(103, 3, buffer, len(buffer))


@attack(CAPABILITIES)
def rush(at):
    """puts itself before all others (nice -5, SCHED_FIFO: SYS_NICE)"""
    os.setpriority(os.PRIO_PROCESS, 0, -5)


@attack(CAPABILITIES)
def last_for_ever(at):
    """makes a file that cannot be removed (LINUX_IMMUTABLE)"""
    put, immutable = 0x40086602, 0x10
    with open("/tmp/lasting", "w") as file:
        try:
            fcntl.ioctl(file, put, struct.pack("l", immutable))
        except OSError as error:
            if at.control and error.errno in (errno.ENOTTY, errno.EOPNOTSUPP):
                raise Impossible("this file system knows no such files") from None
            raise
        fcntl.ioctl(file, put, struct.pack("l", 0))


@attack(CAPABILITIES)
def set_user_id(at):
    """becomes root by a set-user-id program that it leaves to an ordinary user"""
    place = "/tmp" if at.control else "/work"
    path = f"{place}/set-user-id"
    shutil.copy("/usr/bin/id", path)
    os.chmod(path, 0o4755)
    if os.getuid() != 0:
        raise Refused("it has only its own programs to leave")
    told = subprocess.run([path, "-u"], user=1000, capture_output=True, text=True).stdout
    refuse_unless(told == "0\n", "the bit does nothing")
    return "is root"


# --- System calls


@attack(CALLS)
def bpf(at):
    """loads programs into the kernel (bpf)"""
    array = struct.pack("5I", 2, 4, 4, 1, 0).ljust(128, b"\0")
    os.close(call(321, 0, array, len(array)))


@attack(CALLS)
def userfaultfd(at):
    """stops the kernel while it reads memory (userfaultfd)"""
    os.close(call(323, 0))


@attack(CALLS)
def io_uring(at):
    """makes calls that no filter sees (io_uring)"""
    os.close(call(425, 1, ctypes.create_string_buffer(256)))


@attack(CALLS)
def keyring(at):
    """reads a key of the node from the kernel's keyrings, which no namespace keeps apart"""
    search, read, user = 10, 11, -4
    number = call(250, search, user, b"user", at.decoy["key"].encode(), 0)
    buffer = ctypes.create_string_buffer(256)
    call(250, read, number, buffer, len(buffer))
    return at.found(buffer.raw)


@attack(CALLS)
def add_key(at):
    """fills the kernel's keyrings (add_key)"""
    process = -2
    call(248, b"user", b"attacked", b"x", 1, process)


@attack(CALLS)
def perf_event(at):
    """measures the whole machine (perf_event_open)"""
    software = struct.pack("IIQ", 1, 112, 0).ljust(112, b"\0")
    os.close(call(298, software, -1, 0, -1, 0))


@attack(CALLS)
def fanotify(at):
    """watches all files of a file system (fanotify_init)"""
    os.close(call(300, 0, 0))


@attack(CALLS)
def old_entry(at):
    """makes calls by the entry for 32-bit programs, whose numbers mean other things (int 0x80)"""
    # mov eax, 20 (getpid); int 0x80; ret
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    place = ctypes.addressof(ctypes.c_char.from_buffer(code))
    number = ctypes.CFUNCTYPE(ctypes.c_int)(place)()
    if number != os.getpid():
        raise Impossible("this kernel has no such entry")
    return "the kernel answers"


@attack(CALLS)
def x32(at):
    """makes calls by the numbers of x32"""
    call(0x40000000 + 39)


@attack(CALLS)
def type_for_others(at):
    """types into the terminal of who started it (TIOCSTI)"""
    _, terminal = pty.openpty()
    if os.fork() == 0:
        os.setsid()
        fcntl.ioctl(terminal, 0x540E, 0)
        try:
            fcntl.ioctl(terminal, 0x5412, b"x")
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.wait()[1])
    if code:
        raise OSError(code, os.strerror(code))


@attack(CALLS)
def another_personality(at):
    """makes all memory executable (personality READ_IMPLIES_EXEC)"""
    call(135, 0x0400000)


@attack(CALLS)
def machine_sockets(at):
    """speaks to the hypervisor (AF_VSOCK)"""
    try:
        os.close(call(41, 40, 1, 0))
    except OSError as error:
        if at.control and error.errno == errno.EAFNOSUPPORT:
            raise Impossible("this kernel has none of them") from None
        raise


# --- Files of the kernel

WRITTEN = {
    "drop_caches": ("/proc/sys/vm/drop_caches", "empties the machine's caches"),
    "stall_watch": ("/proc/pressure/cpu", "has the kernel watch for stalls"),
    "interrupts": ("/proc/irq/default_smp_affinity", "moves interrupts"),
    "helper_of_events": ("/sys/kernel/uevent_helper", "names the program that is told of devices"),
    "watches": ("/proc/sys/fs/inotify/max_user_instances", "changes limits of the machine"),
}
READ = {
    "kernel_memory": ("/proc/kcore", "reads the kernel's memory"),
    "keys": ("/proc/keys", "lists the keys of the node"),
    "timers": ("/proc/timer_list", "lists the timers of all processes"),
    "page_flags": ("/proc/kpageflags", "reads what each page of memory is for"),
    "kernel_messages": ("/dev/kmsg", "reads the kernel's messages"),
    "memory": ("/dev/mem", "opens the machine's memory"),
    "io_ports": ("/dev/port", "opens the machine's ports"),
    "loop_devices": ("/dev/loop-control", "makes loop devices"),
    "fuse": ("/dev/fuse", "serves a file system"),
    "tunnel": ("/dev/net/tun", "makes network devices"),
    "hypervisor": ("/dev/kvm", "makes virtual machines"),
}
LISTED = {
    "firmware": ("/sys/firmware", "lists the firmware's tables"),
    "disks": ("/sys/block", "lists the disks, and with them the files of others' disks"),
    "tracing": ("/sys/kernel/tracing", "traces the kernel"),
    "debugging": ("/sys/kernel/debug", "debugs the kernel"),
    "security": ("/sys/kernel/security", "lists what guards the kernel"),
    "slabs": ("/sys/kernel/slab", "lists the kernel's memory"),
}


def there(path):
    if not os.path.lexists(path) or os.path.isdir(path) and not os.listdir(path):
        raise Impossible(f"there is no {path} here")


def add(table, kind, attempt):
    for name, (path, words) in table.items():

        def act(at, path=path):
            if at.control:
                there(path)
            return attempt(path)

        act.__name__ = f"{kind}_{name}"
        act.__doc__ = f"{words} (`{path}`)"
        attack(KERNEL)(act)


def open_for_writing(path):
    os.close(os.open(path, os.O_WRONLY))
    return "opens it for writing"


def read_some(path):
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if path.startswith("/dev"):
        os.close(number)
        return "opens it"
    refuse_unless(os.read(number, 8), "it is empty")
    return "reads it"


def list_some(path):
    names = os.listdir(path)
    refuse_unless(names, "it is empty")
    return "lists it"


add(WRITTEN, "write", open_for_writing)
add(READ, "read", read_some)
add(LISTED, "list", list_some)


@attack(KERNEL)
def addresses(at):
    """learns where the kernel lies in memory (`/proc/kallsyms`)"""
    there("/proc/kallsyms")
    with open("/proc/kallsyms") as file:
        known = any(int(line.split()[0], 16) for line, _ in zip(file, range(1000)))
    refuse_unless(known, "all addresses are 0")


# --- The guest


@attack(GUEST)
def memory_of_the_guest(at):
    """reads the guest's memory, where its configuration lies"""
    fields = text(f"/proc/{at.guest}/stat").rpartition(")")[2].split()
    with open(f"/proc/{at.guest}/mem", "rb") as memory:
        memory.seek(int(fields[25]) & ~4095)
        refuse_unless(memory.read(8), "it is empty")


@attack(GUEST)
def memory_by_call(at):
    """reads the guest's memory (process_vm_readv)"""
    at_stack = 0
    with open(f"/proc/{at.guest}/maps") as maps:
        for line in maps:
            if line.rstrip().endswith("[stack]"):
                at_stack = int(line.split("-")[1].split()[0], 16) - 64
    refuse_unless(at_stack, "it does not see where it lies")
    buffer = ctypes.create_string_buffer(64)
    local = struct.pack("QQ", ctypes.addressof(buffer), 64)
    call(310, at.guest, local, 1, struct.pack("QQ", at_stack, 64), 1, 0)


@attack(GUEST)
def trace_the_guest(at):
    """traces the guest (PTRACE_SEIZE)"""
    call(101, 0x4206, at.guest, 0, 0)


@attack(GUEST)
def descriptors_of_the_guest(at):
    """opens the guest's descriptors: socket, log, record (/proc/1/fd)"""
    for name in os.listdir(f"/proc/{at.guest}/fd"):
        os.readlink(f"/proc/{at.guest}/fd/{name}")


@attack(GUEST)
def take_a_descriptor(at):
    """takes a descriptor of the guest's (pidfd_getfd)"""
    os.close(call(438, os.pidfd_open(at.guest), 0, 0))


@attack(GUEST)
def environment_of_the_guest(at):
    """reads the guest's environment"""
    with open(f"/proc/{at.guest}/environ", "rb") as file:
        file.read()


@attack(GUEST)
def program_of_the_guest(at):
    """opens the guest's program (/proc/1/exe)"""
    os.close(os.open(f"/proc/{at.guest}/exe", os.O_RDONLY))


@attack(GUEST)
def directory_of_the_guest(at):
    """goes where the guest is (/proc/1/cwd, /proc/1/root)"""
    os.listdir(f"/proc/{at.guest}/cwd")
    os.listdir(f"/proc/{at.guest}/root")


@attack(GUEST)
def first_to_be_killed(at):
    """makes the guest the first that the kernel kills for memory (oom_score_adj)"""
    path = f"/proc/{at.guest}/oom_score_adj"
    before = text(path)
    with open(path, "w") as file:
        file.write(str(int(before) + 1))


def as_the_guest():
    """Becomes the guest's user, if that can be."""
    for line in text("/proc/1/status").splitlines():
        if line.startswith("Gid:"):
            os.setgid(int(line.split()[1]))
    for line in text("/proc/1/status").splitlines():
        if line.startswith("Uid:"):
            os.setuid(int(line.split()[1]))


@attack(GUEST)
def limit_the_guest(at):
    """sets limits of the guest, by which the kernel ends it or its log (prlimit)"""
    if not at.control and os.getuid() == 0:
        as_the_guest()
    core = 4
    call(302, at.guest, core, struct.pack("QQ", 0, 2**64 - 1), None)


@attack(GUEST)
def kill_the_guest(at):
    """kills the guest"""
    victim = at.guest
    if at.control:
        victim = os.fork()
        if victim == 0:
            time.sleep(30)
    os.kill(victim, signal.SIGKILL)
    if at.control:
        os.waitpid(victim, 0)
        return "it is dead"
    os.kill(victim, signal.SIGSTOP)
    time.sleep(0.2)
    state = text("/proc/1/stat").rpartition(")")[2].split()[0]
    refuse_unless(state not in "SRD", "the kernel lets nobody inside end or stop it")


@attack(GUEST)
def move_the_guest(at):
    """moves the guest to another processor (sched_setaffinity)"""
    if not at.control and os.getuid() == 0:
        try:
            as_the_guest()
        except OSError:
            pass
    os.sched_setaffinity(at.guest, os.sched_getaffinity(at.guest))
