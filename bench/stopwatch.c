/* Runs its arguments as a program once for each line of its input, and prints how long that took.
 *
 *   stopwatch null|memory PROGRAM ARGUMENT...
 *
 * `{n}` in an argument stands for a number that no other run has. Standard input and output of the
 * program are /dev/null, or files in memory: OCI runtimes give what stands there to the container's
 * user, which the machine's /dev/null must not be. Its errors are ours. One line of the output is a JSON object: wall_us from
 * before the spawn until it is reaped, user_us and sys_us of it and of what it waited for, and its
 * exit status as wait(2) tells it. It exists so that no interpreter's fork is in a measured time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static long long now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static long long micros(struct timeval t) { return t.tv_sec * 1000000LL + t.tv_usec; }

/* A copy of `text` with each `{n}` replaced. */
static char *numbered(const char *text, const char *number) {
    size_t room = strlen(text) + 1;
    for (const char *at = text; (at = strstr(at, "{n}")); at += 3)
        room += strlen(number);
    char *copy = malloc(room), *to = copy;
    if (!copy)
        abort();
    while (*text) {
        if (strncmp(text, "{n}", 3) == 0) {
            to = stpcpy(to, number);
            text += 3;
        } else {
            *to++ = *text++;
        }
    }
    *to = 0;
    return copy;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "stopwatch: no program\n");
        return 2;
    }
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    for (int number = 0; number < 2; number++) {
        if (strcmp(argv[1], "memory"))
            posix_spawn_file_actions_addopen(&files, number, "/dev/null", O_RDWR, 0);
        else
            posix_spawn_file_actions_adddup2(&files, memfd_create("stdio", MFD_CLOEXEC), number);
    }
    argc -= 2, argv += 2;
    char line[64], **command = calloc(argc + 1, sizeof *command);
    if (!command)
        abort();
    for (long count = 0; fgets(line, sizeof line, stdin); count++) {
        char number[48];
        snprintf(number, sizeof number, "%d-%ld", getpid(), count);
        for (int i = 0; i < argc; i++)
            command[i] = numbered(argv[i], number);
        pid_t pid;
        int status = 0;
        struct rusage usage;
        long long began = now_us();
        int error = posix_spawnp(&pid, command[0], &files, NULL, command, environ);
        if (error) {
            fprintf(stderr, "stopwatch: %s: %s\n", command[0], strerror(error));
            return 1;
        }
        while (wait4(pid, &status, 0, &usage) < 0)
            if (errno != EINTR)
                return 1;
        long long wall = now_us() - began;
        printf("{\"wall_us\":%lld,\"user_us\":%lld,\"sys_us\":%lld,\"status\":%d}\n", wall,
               micros(usage.ru_utime), micros(usage.ru_stime), status);
        fflush(stdout);
        for (int i = 0; i < argc; i++)
            free(command[i]);
    }
    return 0;
}
