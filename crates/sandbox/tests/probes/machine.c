/* What a C program is told of its machine, dynamic or static. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <sys/sysinfo.h>
#include <unistd.h>

int main(void) {
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask))
        return 1;
    printf("cpus.sched_getaffinity %d\n", CPU_COUNT(&mask));
    printf("cpus.sysconf_online %ld\n", sysconf(_SC_NPROCESSORS_ONLN));
    printf("cpus.sysconf_configured %ld\n", sysconf(_SC_NPROCESSORS_CONF));
    printf("cpus.get_nprocs %d\n", get_nprocs());
    printf("cpus.get_nprocs_conf %d\n", get_nprocs_conf());
    struct sysinfo info;
    if (sysinfo(&info))
        return 1;
    long page = sysconf(_SC_PAGE_SIZE);
    printf("memory.sysinfo %lld\n", (long long)info.totalram * info.mem_unit);
    printf("memory.sysconf %lld\n", (long long)sysconf(_SC_PHYS_PAGES) * page);
    printf("memory.get_phys_pages %lld\n", (long long)get_phys_pages() * page);
    return 0;
}
