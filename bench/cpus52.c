/* Makes a program believe that the machine has 52 CPUs, by LD_PRELOAD.
 *
 * It answers what numerical libraries and language runtimes ask: the affinity mask, sysconf(3),
 * get_nprocs(3), and the lists below /sys/devices/system/cpu. Setting an affinity is accepted and
 * does nothing, since most of the 52 are not there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#define CPUS 52
static const char LIST[] = "0-51\n";

static int fill(size_t size, cpu_set_t *mask) {
    CPU_ZERO_S(size, mask);
    for (int cpu = 0; cpu < CPUS; cpu++)
        CPU_SET_S(cpu, size, mask);
    return 0;
}

int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *mask) {
    (void)pid;
    return fill(size, mask);
}

int pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *mask) {
    (void)thread;
    return fill(size, mask);
}

int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *mask) {
    (void)pid, (void)size, (void)mask;
    return 0;
}

int pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *mask) {
    (void)thread, (void)size, (void)mask;
    return 0;
}

int get_nprocs(void) { return CPUS; }
int get_nprocs_conf(void) { return CPUS; }

long sysconf(int name) {
    static long (*real)(int);
    if (name == _SC_NPROCESSORS_CONF || name == _SC_NPROCESSORS_ONLN)
        return CPUS;
    if (!real)
        real = (long (*)(int))dlsym(RTLD_NEXT, "sysconf");
    return real(name);
}

static int is_list(const char *path) {
    static const char DIRECTORY[] = "/sys/devices/system/cpu/";
    if (!path || strncmp(path, DIRECTORY, sizeof DIRECTORY - 1))
        return 0;
    const char *name = path + sizeof DIRECTORY - 1;
    return !strcmp(name, "online") || !strcmp(name, "possible") || !strcmp(name, "present");
}

static int list(void) {
    int file = memfd_create("cpus", MFD_CLOEXEC);
    if (file >= 0 && (write(file, LIST, sizeof LIST - 1) < 0 || lseek(file, 0, SEEK_SET) < 0)) {
        close(file);
        return -1;
    }
    return file;
}

#define MODE(flags, mode)                                                                          \
    mode_t mode = 0;                                                                               \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                         \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode = va_arg(rest, mode_t);                                                               \
        va_end(rest);                                                                              \
    }

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...) {                                                   \
        static int (*real)(const char *, int, ...);                                                \
        MODE(flags, mode)                                                                          \
        if (is_list(path))                                                                         \
            return list();                                                                         \
        if (!real)                                                                                 \
            real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name);                       \
        return real(path, flags, mode);                                                            \
    }

#define OPENAT(name)                                                                               \
    int name(int directory, const char *path, int flags, ...) {                                    \
        static int (*real)(int, const char *, int, ...);                                           \
        MODE(flags, mode)                                                                          \
        if (is_list(path))                                                                         \
            return list();                                                                         \
        if (!real)                                                                                 \
            real = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, #name);                  \
        return real(directory, path, flags, mode);                                                 \
    }

#define FOPEN(name)                                                                                \
    FILE *name(const char *path, const char *mode) {                                               \
        static FILE *(*real)(const char *, const char *);                                          \
        if (is_list(path)) {                                                                       \
            int file = list();                                                                     \
            return file < 0 ? NULL : fdopen(file, "r");                                            \
        }                                                                                          \
        if (!real)                                                                                 \
            real = (FILE * (*)(const char *, const char *)) dlsym(RTLD_NEXT, #name);               \
        return real(path, mode);                                                                   \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
FOPEN(fopen)
FOPEN(fopen64)
