/* What a sandboxed start costs if nothing stands between the program and the kernel: the floor.
 *
 *   floor DIRECTORY [COMMAND ARGUMENT...]
 *
 * One start for each line of standard input, as bench-start does it and with the same flags, by
 * direct system calls: groups of every controller but cpuset, joined by the child through
 * descriptors that were opened before the clone; a user namespace with 65,536 ids, and mount, pid,
 * net, ipc, uts and cgroup namespaces; a read-only root of detached mounts, /proc and /sys with masks, /dev, /tmp;
 * no capabilities, no new privileges, a filter of some 300 rules; PID 1 that runs the command with
 * its output in log files, and writes an exit record by rename. Each line of the output is a JSON
 * object with started_us, ended_us and removed_us, counted from the request.
 *
 * The parts: groups, the parent's mounts, the child, PID 1 (the same file under another name).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LENGTH(array) (sizeof(array) / sizeof *(array))
enum { RANGE = 65536, COMMAND_ID = 1000, RANGES = 1000, PATH_ROOM = 512 };
/* Far from the ranges of sites and of bench-start. */
static const unsigned FIRST_BASE = 3600000000u;
static const char MEMORY[] = "268435456", PIDS[] = "64", QUOTA[] = "100000", PERIOD[] = "100000";
static const char SCRATCH[] = "67108864";
static const char INIT_NAME[] = "floor-init";
/* What PID 1 inherits. */
enum { CONFIG = 3, LISTENER, RECORD, LOGS, GO, READY, FIRST_CLOSED };

/* Set in the parent only: what a failure leaves has to go. */
static void (*clean_up)(void);

static void die(const char *act, const char *what) {
    fprintf(stderr, "floor: %s %s: %s\n", act, what, strerror(errno));
    if (clean_up)
        clean_up();
    _exit(1);
}

static int must(int result, const char *act, const char *what) {
    if (result < 0)
        die(act, what);
    return result;
}

static const char *path_of(char room[PATH_ROOM], const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    int length = vsnprintf(room, PATH_ROOM, format, rest);
    va_end(rest);
    if (length < 0 || length >= PATH_ROOM) {
        errno = ENAMETOOLONG;
        die("name", format);
    }
    return room;
}

static void write_file(const char *path, const char *text) {
    int file = must(open(path, O_WRONLY | O_CLOEXEC), "open", path);
    must(write(file, text, strlen(text)), "write", path);
    close(file);
}

static void read_file(const char *path, char *text, size_t room) {
    text[0] = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    ssize_t length = read(file, text, room - 1);
    text[length < 0 ? 0 : length] = 0;
    close(file);
}

static void make_directory(const char *path, mode_t mode) {
    if (mkdir(path, mode) < 0 && errno != EEXIST)
        die("make", path);
}

/* ---- Groups ---------------------------------------------------------------------------------- */

static const char *const CONTROLLERS[] = {"cpu",     "cpuacct", "memory", "devices",
                                          "freezer", "blkio",   "pids"};
static const char *const DEVICE_RULES[] = {"c 1:3 rw", "c 1:5 rw", "c 1:7 rw", "c 1:8 rw",
                                           "c 1:9 rw", "c 5:0 rw", "c 5:2 rw", "c 136:* rw"};
static char own_groups[LENGTH(CONTROLLERS) + 1][PATH_ROOM];
static const char *own_names[LENGTH(CONTROLLERS) + 1];
static size_t own_count;
static char unified_group[PATH_ROOM];
static int unified_only;

/* Our own group in every hierarchy there is, once. */
static void make_own_groups(void) {
    char path[PATH_ROOM];
    for (size_t i = 0; i < LENGTH(CONTROLLERS); i++) {
        if (access(path_of(path, "/sys/fs/cgroup/%s/tasks", CONTROLLERS[i]), F_OK) < 0)
            continue;
        char *group = own_groups[own_count];
        path_of(group, "/sys/fs/cgroup/%s/insula-floor-%d", CONTROLLERS[i], getpid());
        make_directory(group, 0755);
        own_names[own_count++] = CONTROLLERS[i];
    }
    if (access("/sys/fs/cgroup/unified/cgroup.procs", F_OK) == 0)
        path_of(unified_group, "/sys/fs/cgroup/unified/insula-floor-%d", getpid());
    else if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0)
        path_of(unified_group, "/sys/fs/cgroup/insula-floor-%d", getpid()), unified_only = 1;
    if (!unified_group[0])
        return;
    make_directory(unified_group, 0755);
    if (unified_only)
        write_file(path_of(path, "%s/cgroup.subtree_control", unified_group), "+cpu +memory +pids");
}

static void remove_group(const char *path) {
    for (int tries = 0; rmdir(path) < 0 && errno != ENOENT; tries++) {
        if (errno != EBUSY || tries > 10000)
            die("remove", path);
        usleep(100);
    }
}

static unsigned current_number;
static int current_pid;

/* Also of a start that failed, as far as it came. */
static void remove_own_groups(void) {
    char path[PATH_ROOM];
    clean_up = NULL;
    if (current_pid > 0) {
        kill(current_pid, SIGKILL);
        waitpid(current_pid, NULL, 0);
    }
    for (size_t i = 0; i <= own_count; i++) {
        const char *group = i < own_count ? own_groups[i] : unified_group;
        if (!*group)
            continue;
        rmdir(path_of(path, "%.400s/%u", group, current_number));
        remove_group(group);
    }
}

struct groups {
    int tasks[LENGTH(CONTROLLERS)];
    int unified, quota;
};

static void limit(const char *controller, const char *group, struct groups *made) {
    char path[PATH_ROOM];
    if (!strcmp(controller, "memory")) {
        write_file(path_of(path, "%s/memory.limit_in_bytes", group), MEMORY);
        if (access(path_of(path, "%s/memory.memsw.limit_in_bytes", group), F_OK) == 0)
            write_file(path, MEMORY);
        write_file(path_of(path, "%s/memory.swappiness", group), "0");
    } else if (!strcmp(controller, "pids")) {
        write_file(path_of(path, "%s/pids.max", group), PIDS);
    } else if (!strcmp(controller, "cpu")) {
        write_file(path_of(path, "%s/cpu.cfs_period_us", group), PERIOD);
        path_of(path, "%s/cpu.cfs_quota_us", group);
        made->quota = must(open(path, O_WRONLY | O_CLOEXEC), "open", path);
    } else if (!strcmp(controller, "devices")) {
        write_file(path_of(path, "%s/devices.deny", group), "a");
        for (size_t i = 0; i < LENGTH(DEVICE_RULES); i++)
            write_file(path_of(path, "%s/devices.allow", group), DEVICE_RULES[i]);
    }
}

static void make_groups(unsigned number, struct groups *made) {
    char group[PATH_ROOM - 64], path[PATH_ROOM];
    made->unified = made->quota = -1;
    for (size_t i = 0; i < own_count; i++) {
        snprintf(group, sizeof group, "%.300s/%u", own_groups[i], number);
        must(mkdir(group, 0755), "make", group);
        limit(own_names[i], group, made);
        path_of(path, "%s/tasks", group);
        made->tasks[i] = must(open(path, O_WRONLY | O_CLOEXEC), "open", path);
    }
    if (!unified_group[0])
        return;
    snprintf(group, sizeof group, "%.300s/%u", unified_group, number);
    must(mkdir(group, 0755), "make", group);
    made->unified = must(open(group, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open", group);
    if (unified_only) {
        write_file(path_of(path, "%s/memory.max", group), MEMORY);
        write_file(path_of(path, "%s/pids.max", group), PIDS);
        path_of(path, "%s/cpu.max", group);
        made->quota = must(open(path, O_WRONLY | O_CLOEXEC), "open", path);
    }
}

/* What it used is read, as a session's usage is kept, and its groups go. */
static void remove_groups(unsigned number, struct groups *made) {
    static const char *const USAGE[][2] = {
        {"memory", "memory.oom_control"},          {"memory", "memory.usage_in_bytes"},
        {"memory", "memory.max_usage_in_bytes"},   {"cpuacct", "cpuacct.usage"},
        {"pids", "pids.events"},                   {"blkio", "blkio.throttle.io_service_bytes_recursive"}};
    char path[PATH_ROOM], text[1024];
    close(made->quota);
    if (made->unified >= 0)
        close(made->unified);
    for (size_t i = 0; i < own_count; i++) {
        close(made->tasks[i]);
        for (size_t u = 0; u < LENGTH(USAGE); u++)
            if (!strcmp(USAGE[u][0], own_names[i]))
                read_file(path_of(path, "%s/%u/%s", own_groups[i], number, USAGE[u][1]), text,
                          sizeof text);
        remove_group(path_of(path, "%s/%u", own_groups[i], number));
    }
    if (unified_group[0])
        remove_group(path_of(path, "%s/%u", unified_group, number));
}

/* ---- The parent's mounts --------------------------------------------------------------------- */

static char base[PATH_ROOM];

/* A root with the places of everything, made once. */
static void make_root(void) {
    static const char *const PLACES[] = {"dev", "etc", "home", "home/user", "mnt", "opt", "proc", "root",
                                         "run", "srv", "sys",  "tmp",       "usr", "var", "work"};
    static const char *const LINKS[][2] = {
        {"usr/bin", "bin"}, {"usr/lib", "lib"}, {"usr/lib64", "lib64"}, {"usr/sbin", "sbin"}};
    static const char *const FILES[] = {"hostname", "hosts", "ld.so.cache"};
    char path[PATH_ROOM], text[65536];
    make_directory(path_of(path, "%s/tree", base), 0755);
    for (size_t i = 0; i < LENGTH(PLACES); i++)
        make_directory(path_of(path, "%s/tree/%s", base, PLACES[i]), 0755);
    for (size_t i = 0; i < LENGTH(LINKS); i++)
        if (symlink(LINKS[i][0], path_of(path, "%s/tree/%s", base, LINKS[i][1])) < 0 && errno != EEXIST)
            die("make", path);
    for (size_t i = 0; i < LENGTH(FILES); i++) {
        read_file(path_of(path, "/etc/%s", FILES[i]), text, sizeof text);
        path_of(path, "%s/tree/etc/%s", base, FILES[i]);
        int file = must(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644), "make", path);
        must(write(file, text, strlen(text)), "write", path);
        close(file);
    }
    make_directory(path_of(path, "%s/members", base), 0711);
    make_directory(path_of(path, "%s/sockets", base), 0700);
}

static void set_attributes(int mount, uint64_t attributes, int user_namespace) {
    struct mount_attr set = {.attr_set = attributes};
    if (user_namespace >= 0) {
        set.attr_set |= MOUNT_ATTR_IDMAP;
        set.userns_fd = user_namespace;
    }
    must(mount_setattr(mount, "", AT_EMPTY_PATH, &set, sizeof set), "change", "a mount");
}

static int detached(const char *path, uint64_t attributes) {
    int mount = must(open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC), "clone", path);
    set_attributes(mount, attributes, -1);
    return mount;
}

/* ---- The child ------------------------------------------------------------------------------- */

static const char *const HIDDEN_PROC[] = {
    "acpi",        "asound",     "kcore",      "keys",          "key-users",   "kmsg", "kpagecgroup",
    "kpagecount",  "kpageflags", "scsi",       "latency_stats", "sched_debug", "timer_list",
    "timer_stats"};
static const char *const CLOSED_PROC[] = {"1", "bus", "fs", "irq", "pressure", "sys", "sysrq-trigger"};
static const char *const HIDDEN_SYS[] = {
    "block",        "devices/virtual/block", "devices/virtual/powercap", "firmware",
    "kernel/debug", "kernel/notes",          "kernel/security",          "kernel/slab",
    "kernel/tracing", "kernel/vmcoreinfo"};
static const char *const DEVICES[] = {"null", "zero", "full", "random", "urandom", "tty"};
static const char *const DEVICE_LINKS[][2] = {{"/proc/self/fd", "fd"},
                                              {"/proc/self/fd/0", "stdin"},
                                              {"/proc/self/fd/1", "stdout"},
                                              {"/proc/self/fd/2", "stderr"},
                                              {"pts/ptmx", "ptmx"}};
enum { HARMLESS = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV };

struct start {
    unsigned number, ids;
    struct groups groups;
    int root, usr, opt, work, home; /* detached mounts */
    int sync[2], ready[2], go[2];
    int config, listener, record, logs, program;
    char directory[PATH_ROOM], socket[PATH_ROOM];
};

static int beneath(int directory, const char *path) {
    struct open_how how = {.flags = O_PATH | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    return syscall(SYS_openat2, directory, path, &how, sizeof how);
}

static int place(int root, const char *path) { return must(beneath(root, path), "open", path); }

static void attach(int mount, int target) {
    must(move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH),
         "attach", "a mount");
    close(mount);
    close(target);
}

static int create(const char *kind, uint64_t attributes, ...) {
    int context = must(fsopen(kind, FSOPEN_CLOEXEC), "open file system", kind);
    va_list options;
    va_start(options, attributes);
    for (const char *key; (key = va_arg(options, const char *));) {
        const char *value = va_arg(options, const char *);
        must(*value ? fsconfig(context, FSCONFIG_SET_STRING, key, value, 0)
                    : fsconfig(context, FSCONFIG_SET_FLAG, key, NULL, 0),
             "set option", key);
    }
    va_end(options);
    must(fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0), "create", kind);
    int mount = must(fsmount(context, FSMOUNT_CLOEXEC, attributes), "mount", kind);
    close(context);
    return mount;
}

static int copy_of(int directory, const char *path) {
    return must(open_tree(directory, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC), "copy", path);
}

static void put_over(int directory, const char *name, int mount) {
    must(move_mount(mount, "", directory, name, MOVE_MOUNT_F_EMPTY_PATH), "cover", name);
    close(mount);
}

static void hide(int directory, const char *const names[], size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct stat facts;
        if (fstatat(directory, names[i], &facts, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        put_over(directory, names[i],
                 copy_of(AT_FDCWD, S_ISDIR(facts.st_mode) ? "empty" : "/dev/null"));
    }
}

static void close_to_writing(int directory, const char *const names[], size_t count) {
    for (size_t i = 0; i < count; i++) {
        int copy = open_tree(directory, names[i], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (copy < 0)
            continue;
        set_attributes(copy, MOUNT_ATTR_RDONLY | HARMLESS, -1);
        put_over(directory, names[i], copy);
    }
}

static int scratch(void) {
    return create("tmpfs", HARMLESS, "mode", "1777", "size", SCRATCH, "nr_inodes", "16384", NULL);
}

static void mount_devices(int root) {
    int dev = create("tmpfs", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, "mode", "0755", "size", "64k",
                     "nr_inodes", "64", NULL);
    attach(dup(dev), place(root, "dev"));
    for (size_t i = 0; i < LENGTH(DEVICES); i++) {
        char path[PATH_ROOM];
        close(must(openat(dev, DEVICES[i], O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666), "make",
                   DEVICES[i]));
        int node = copy_of(AT_FDCWD, path_of(path, "/dev/%s", DEVICES[i]));
        must(move_mount(node, "", dev, DEVICES[i], MOVE_MOUNT_F_EMPTY_PATH), "attach", path);
        close(node);
    }
    for (size_t i = 0; i < LENGTH(DEVICE_LINKS); i++)
        must(symlinkat(DEVICE_LINKS[i][0], dev, DEVICE_LINKS[i][1]), "link", DEVICE_LINKS[i][1]);
    must(mkdirat(dev, "pts", 0755), "make", "pts");
    must(mkdirat(dev, "shm", 0755), "make", "shm");
    int pts = create("devpts", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, "newinstance", "", "ptmxmode",
                     "0666", "mode", "0620", "max", "128", "gid", "5", NULL);
    must(move_mount(pts, "", dev, "pts", MOVE_MOUNT_F_EMPTY_PATH), "attach", "devpts");
    int shm = scratch();
    must(move_mount(shm, "", dev, "shm", MOVE_MOUNT_F_EMPTY_PATH), "attach", "shm");
    set_attributes(dev, MOUNT_ATTR_RDONLY, -1);
    close(pts), close(shm), close(dev);
}

static void cover(int root, const char *target, const char *name, const char *content) {
    int file = must(open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644), "make", name);
    must(write(file, content, strlen(content)), "write", name);
    close(file);
    int copy = copy_of(AT_FDCWD, name);
    set_attributes(copy, MOUNT_ATTR_RDONLY | HARMLESS, -1);
    attach(copy, place(root, target));
}

static void build_root(struct start *start) {
    must(mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL), "detach", "all mounts");
    must(mount("staging", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700,size=256k"), "mount", "staging");
    must(chdir("/tmp"), "enter", "staging");
    must(mkdir("empty", 0700), "make", "empty");
    must(mkdir("root", 0700), "make", "root");
    must(mount("empty", "empty", "tmpfs", MS_NOSUID | MS_NODEV | MS_RDONLY, "mode=0555,size=4k"), "mount",
         "empty");
    must(move_mount(start->root, "", AT_FDCWD, "root", MOVE_MOUNT_F_EMPTY_PATH), "attach", "the root");
    int root = must(open("root", O_PATH | O_DIRECTORY | O_CLOEXEC), "open", "the root");
    int proc = create("proc", HARMLESS | MOUNT_ATTR_NOEXEC, NULL);
    attach(dup(proc), place(root, "proc"));
    hide(proc, HIDDEN_PROC, LENGTH(HIDDEN_PROC));
    close_to_writing(proc, CLOSED_PROC, LENGTH(CLOSED_PROC));
    close(proc);
    int sys = create("sysfs", HARMLESS | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY, NULL);
    attach(dup(sys), place(root, "sys"));
    hide(sys, HIDDEN_SYS, LENGTH(HIDDEN_SYS));
    close(sys);
    mount_devices(root);
    attach(scratch(), place(root, "tmp"));
    attach(start->work, place(root, "work"));
    attach(start->home, place(root, "home/user"));
    attach(start->usr, place(root, "usr"));
    attach(start->opt, place(root, "opt"));
    cover(root, "etc/hosts", "hosts", "127.0.0.1 localhost bench\n");
    cover(root, "etc/hostname", "hostname", "bench\n");
    set_attributes(root, MOUNT_ATTR_RDONLY, -1);
    must(fchdir(root), "enter", "the root");
    must(syscall(SYS_pivot_root, ".", "."), "change", "the root");
    must(umount2(".", MNT_DETACH), "detach", "the old root");
    must(chdir("/"), "enter", "/");
}

static void raise_loopback(void) {
    struct ifreq request = {.ifr_name = "lo"};
    int socket_fd = must(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "open", "a socket");
    must(ioctl(socket_fd, SIOCGIFFLAGS, &request), "ask", "lo");
    request.ifr_flags |= IFF_UP;
    must(ioctl(socket_fd, SIOCSIFFLAGS, &request), "raise", "lo");
    close(socket_fd);
}

static void drop_bounding(uint64_t kept) {
    for (int number = 0; number < 64; number++)
        if (!(kept >> number & 1) && prctl(PR_CAPBSET_DROP, number, 0, 0, 0) < 0) {
            if (errno == EINVAL)
                break;
            die("drop", "a capability");
        }
}

static void set_capabilities(uint64_t kept) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = kept, .permitted = kept, .inheritable = kept}};
    must(syscall(SYS_capset, &header, data), "set", "capabilities");
}

/* Numbers that a program in a container has no use for: loading code into the kernel, mounting,
 * namespaces, keys, the clock, tracing of the kernel. */
static int is_forbidden(int number) {
    static const int FORBIDDEN[] = {
        SYS_acct,         SYS_add_key,       SYS_adjtimex,      SYS_bpf,           SYS_chroot,
        SYS_clock_adjtime, SYS_clock_settime, SYS_delete_module, SYS_finit_module,  SYS_fsconfig,
        SYS_fsmount,      SYS_fsopen,        SYS_fspick,        SYS_init_module,   SYS_io_uring_enter,
        SYS_io_uring_register, SYS_io_uring_setup, SYS_ioperm,  SYS_iopl,          SYS_kcmp,
        SYS_kexec_file_load, SYS_kexec_load, SYS_keyctl,        SYS_lookup_dcookie, SYS_mount,
        SYS_mount_setattr, SYS_move_mount,   SYS_nfsservctl,    SYS_open_by_handle_at, SYS_open_tree,
        SYS_perf_event_open, SYS_pivot_root, SYS_quotactl,      SYS_reboot,        SYS_request_key,
        SYS_setdomainname, SYS_sethostname,  SYS_setns,         SYS_settimeofday,  SYS_swapoff,
        SYS_swapon,       SYS_syslog,        SYS_umount2,       SYS_unshare,       SYS_userfaultfd,
        SYS_vhangup};
    for (size_t i = 0; i < LENGTH(FORBIDDEN); i++)
        if (FORBIDDEN[i] == number)
            return 1;
    return 0;
}

/* A comparison for each number that may be called, as the usual libraries make them. */
static struct sock_filter filter_code[1024];
static struct sock_fprog filter = {.filter = filter_code};

static void compile_filter(void) {
    enum { LAST_OLD = 334, FIRST_NEW = 424, LAST_NEW = 450 };
    int numbers[480], count = 0, at = 0;
    for (int number = 0; number <= LAST_NEW; number++)
        if ((number <= LAST_OLD || number >= FIRST_NEW) && !is_forbidden(number))
            numbers[count++] = number;
    filter_code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    filter_code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    filter_code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    filter_code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < count; i++) {
        /* A jump reaches 255 instructions, so each answers itself. */
        filter_code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)numbers[i], 0, 1);
        filter_code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    filter_code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
    filter.len = at;
}

static const uint64_t INIT_CAPABILITIES = 1ull << CAP_KILL | 1ull << CAP_SETUID | 1ull << CAP_SETGID |
                                          1ull << CAP_SETPCAP;

static void child(struct start *start) {
    char byte;
    for (size_t i = 0; i < own_count; i++)
        must(write(start->groups.tasks[i], "0", 1), "join", own_names[i]);
    must(unshare(CLONE_NEWCGROUP), "make", "a cgroup namespace");
    close(start->sync[1]);
    if (read(start->sync[0], &byte, 1) != 1)
        _exit(1);
    must(setgroups(0, NULL), "leave", "groups");
    must(setresgid(0, 0, 0), "become", "root's group");
    must(setresuid(0, 0, 0), "become", "root");
    umask(022);
    must(sethostname("bench", 5), "set", "the host name");
    raise_loopback();
    build_root(start);
    const int inherited[] = {start->config, start->listener, start->record,
                             start->logs,   start->go[0],    start->ready[1]};
    int high[LENGTH(inherited)];
    for (size_t i = 0; i < LENGTH(inherited); i++)
        high[i] = must(fcntl(inherited[i], F_DUPFD_CLOEXEC, 100), "copy", "a descriptor");
    int program = must(fcntl(start->program, F_DUPFD_CLOEXEC, 100), "copy", "a descriptor");
    for (size_t i = 0; i < LENGTH(inherited); i++)
        must(dup2(high[i], CONFIG + (int)i), "place", "a descriptor");
    must(syscall(SYS_close_range, FIRST_CLOSED, ~0u, 4 /* close on exec */), "close", "descriptors");
    drop_bounding(INIT_CAPABILITIES);
    set_capabilities(INIT_CAPABILITIES);
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "give up", "new privileges");
    must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter), "install", "the filter");
    char *const arguments[] = {(char *)INIT_NAME, NULL};
    char *const environment[] = {"PATH=/usr/bin:/bin", NULL};
    syscall(SYS_execveat, program, "", arguments, environment, AT_EMPTY_PATH);
    die("run", INIT_NAME);
}

/* ---- PID 1 ----------------------------------------------------------------------------------- */

static void command(char **arguments, int outputs[2]) {
    signal(SIGPIPE, SIG_DFL);
    must(dup2(open("/dev/null", O_RDONLY), 0), "place", "input");
    must(dup2(outputs[0], 1), "place", "output");
    must(dup2(outputs[1], 2), "place", "errors");
    syscall(SYS_close_range, 3, ~0u, 0);
    setsid();
    drop_bounding(0);
    must(setgroups(0, NULL), "leave", "groups");
    must(setresgid(COMMAND_ID, COMMAND_ID, COMMAND_ID), "become", "the user's group");
    must(setresuid(COMMAND_ID, COMMAND_ID, COMMAND_ID), "become", "the user");
    must(chdir("/work"), "enter", "/work");
    set_capabilities(0);
    execv(arguments[0], arguments);
    _exit(127);
}

static int init(void) {
    char config[4096], byte, buffer[65536];
    char *arguments[64];
    int count = 0;
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    ssize_t length = must(read(CONFIG, config, sizeof config - 1), "read", "the configuration");
    config[length] = 0;
    for (char *at = config; at < config + length && count < 63; at += strlen(at) + 1)
        arguments[count++] = at;
    arguments[count] = NULL;
    int logs[2] = {must(openat(LOGS, "stdout.0", O_CREAT | O_WRONLY | O_CLOEXEC, 0600), "make", "a log"),
                   must(openat(LOGS, "stderr.0", O_CREAT | O_WRONLY | O_CLOEXEC, 0600), "make", "a log")};
    must(write(READY, "R", 1), "tell", "ready");
    if (read(GO, &byte, 1) != 1)
        return 1;
    int out[2], errors[2];
    must(pipe2(out, O_CLOEXEC), "make", "a pipe");
    must(pipe2(errors, O_CLOEXEC), "make", "a pipe");
    pid_t pid = must(fork(), "fork", "the command");
    if (pid == 0)
        command(arguments, (int[]){out[1], errors[1]});
    close(out[1]), close(errors[1]);
    struct pollfd pipes[2] = {{.fd = out[0], .events = POLLIN}, {.fd = errors[0], .events = POLLIN}};
    for (int open_pipes = 2; open_pipes;) {
        must(poll(pipes, 2, -1), "wait", "for output");
        for (int i = 0; i < 2; i++) {
            if (pipes[i].fd < 0 || !pipes[i].revents)
                continue;
            ssize_t got = read(pipes[i].fd, buffer, sizeof buffer);
            if (got > 0)
                must(write(logs[i], buffer, got), "write", "a log");
            else
                pipes[i].fd = -1, open_pipes--;
        }
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    int record = must(openat(RECORD, "record.new", O_CREAT | O_WRONLY | O_CLOEXEC, 0600), "make", "the record");
    int size = snprintf(buffer, sizeof buffer, "{\"status\":%d}\n", status);
    must(write(record, buffer, size), "write", "the record");
    must(renameat(RECORD, "record.new", RECORD, "record"), "name", "the record");
    return 0;
}

/* ---- The parent ------------------------------------------------------------------------------ */

static long long now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static const char *const OWN_DIRECTORIES[] = {"work", "home", "logs", "record"};

/* Before the clock runs, as bench-start does it. */
static void make_member(struct start *start) {
    char path[PATH_ROOM];
    path_of(start->directory, "%.400s/members/%u", base, start->number);
    path_of(start->socket, "%.400s/sockets/%u", base, start->number);
    make_directory(start->directory, 0711);
    for (size_t i = 0; i < LENGTH(OWN_DIRECTORIES); i++) {
        make_directory(path_of(path, "%.440s/%s", start->directory, OWN_DIRECTORIES[i]), 0700);
        unsigned owner = start->ids + (i < 2 ? COMMAND_ID : 0);
        must(chown(path, owner, owner), "give", path);
    }
}

static int listen_on(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = must(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "open", "a socket");
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        die("bind", path);
    }
    strcpy(address.sun_path, path);
    must(bind(listener, (struct sockaddr *)&address, sizeof address), "bind", path);
    must(listen(listener, 128), "listen on", path);
    return listener;
}

static int member_mount(const struct start *start, const char *name) {
    char path[PATH_ROOM];
    return detached(path_of(path, "%.440s/%s", start->directory, name), HARMLESS);
}

static int member_open(const struct start *start, const char *name) {
    char path[PATH_ROOM];
    path_of(path, "%.440s/%s", start->directory, name);
    return must(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open", path);
}

static void write_map(int pid, const char *file, unsigned first) {
    char path[PATH_ROOM], text[64];
    snprintf(text, sizeof text, "0 %u %d\n", first, RANGE);
    write_file(path_of(path, "/proc/%d/%s", pid, file), text);
}

static void prepare(struct start *start, const char *config, size_t config_length) {
    make_groups(start->number, &start->groups);
    char path[PATH_ROOM];
    start->root = detached(path_of(path, "%s/tree", base), HARMLESS);
    start->usr = detached("/usr", HARMLESS | MOUNT_ATTR_RDONLY);
    start->opt = detached("/opt", HARMLESS | MOUNT_ATTR_RDONLY);
    start->work = member_mount(start, "work");
    start->home = member_mount(start, "home");
    start->record = member_open(start, "record");
    start->logs = member_open(start, "logs");
    start->listener = listen_on(start->socket);
    start->config = must(memfd_create("config", MFD_CLOEXEC), "make", "the configuration");
    must(write(start->config, config, config_length), "write", "the configuration");
    lseek(start->config, 0, SEEK_SET);
    must(pipe2(start->sync, O_CLOEXEC), "make", "a pipe");
    must(pipe2(start->ready, O_CLOEXEC), "make", "a pipe");
    must(pipe2(start->go, O_CLOEXEC), "make", "a pipe");
}

static int clone_child(struct start *start, int *pid_fd) {
    struct clone_args arguments = {
        .flags = CLONE_PIDFD | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC |
                 CLONE_NEWUTS,
        .pidfd = (uintptr_t)pid_fd,
        .exit_signal = SIGCHLD,
    };
    if (start->groups.unified >= 0) {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = start->groups.unified;
    }
    int pid = must(syscall(SYS_clone3, &arguments, sizeof arguments), "clone", "the container");
    if (pid == 0) {
        clean_up = NULL;
        child(start);
    }
    current_pid = pid;
    return pid;
}

/* Who PID 1 is, by rename, as the platform notes it for its next life. */
static void note(const struct start *start, int pid) {
    char path[PATH_ROOM], final[PATH_ROOM], text[1024];
    read_file(path_of(path, "/proc/%d/stat", pid), text, sizeof text);
    path_of(path, "%.440s/guest.new", start->directory);
    int file = must(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600), "make", path);
    must(write(file, text, strlen(text)), "write", path);
    close(file);
    must(rename(path, path_of(final, "%.440s/guest", start->directory)), "name", path);
}

static void close_all(const struct start *start) {
    const int all[] = {start->root,   start->usr,      start->opt,    start->work,    start->home,
                       start->record, start->logs,     start->config, start->listener, start->sync[1],
                       start->go[1],  start->ready[0]};
    for (size_t i = 0; i < LENGTH(all); i++)
        close(all[i]);
}

static void serve(unsigned number, int program, const char *config, size_t config_length) {
    struct start start = {.number = number, .program = program};
    start.ids = FIRST_BASE + number % RANGES * RANGE;
    current_number = number;
    make_member(&start);
    long long began = now_us();
    prepare(&start, config, config_length);
    int pid_fd = -1, pid = clone_child(&start, &pid_fd);
    close(start.sync[0]), close(start.ready[1]), close(start.go[0]);
    write_map(pid, "uid_map", start.ids);
    write_map(pid, "gid_map", start.ids);
    char path[PATH_ROOM], byte;
    path_of(path, "/proc/%d/ns/user", pid);
    int space = must(open(path, O_RDONLY | O_CLOEXEC), "open", path);
    set_attributes(start.root, 0, space);
    close(space);
    must(write(start.sync[1], "1", 1), "let", "the child go on");
    if (read(start.ready[0], &byte, 1) != 1)
        die("wait for", "the child");
    note(&start, pid);
    must(write(start.groups.quota, QUOTA, strlen(QUOTA)), "limit", "the CPU time");
    must(write(start.go[1], "G", 1), "tell", "go");
    long long started = now_us() - began;
    siginfo_t how;
    must(waitid(P_PIDFD, pid_fd, &how, WEXITED), "wait for", "the child");
    current_pid = 0;
    char record[256];
    read_file(path_of(path, "%.440s/record/record", start.directory), record, sizeof record);
    long long ended = now_us() - began;
    close(pid_fd);
    close_all(&start);
    must(unlink(start.socket), "remove", start.socket);
    remove_groups(number, &start.groups);
    long long removed = now_us() - began;
    char errors[1024];
    read_file(path_of(path, "%.440s/logs/stderr.0", start.directory), errors, sizeof errors);
    if (strcmp(record, "{\"status\":0}\n")) {
        fprintf(stderr, "floor: the command failed: %s%s\n", record, errors);
        remove_own_groups();
        _exit(1);
    }
    printf("{\"started_us\":%lld,\"ended_us\":%lld,\"removed_us\":%lld}\n", started, ended, removed);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (!strcmp(argv[0], INIT_NAME))
        return init();
    if (argc < 2) {
        fprintf(stderr, "floor: no directory\n");
        return 2;
    }
    path_of(base, "%.300s", argv[1]);
    char config[4096] = "/bin/true", line[64];
    size_t length = strlen(config) + 1;
    if (argc > 2)
        length = 0;
    for (int i = 2; i < argc; i++) {
        size_t room = strlen(argv[i]) + 1;
        if (length + room > sizeof config - 1)
            return 2;
        memcpy(config + length, argv[i], room);
        length += room;
    }
    struct rlimit no_dumps = {1, 1};
    setrlimit(RLIMIT_CORE, &no_dumps);
    int program = must(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), "open", "this program");
    compile_filter();
    make_root();
    clean_up = remove_own_groups;
    make_own_groups();
    for (unsigned number = 0; fgets(line, sizeof line, stdin); number++)
        serve(number, program, config, length);
    remove_own_groups();
    return 0;
}
