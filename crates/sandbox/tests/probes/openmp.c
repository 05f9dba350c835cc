/* What OpenMP makes of its machine: what it says, and how many threads it starts. */
#include <omp.h>
#include <stdio.h>

int main(void) {
    int team = 0;
#pragma omp parallel
    {
#pragma omp single
        team = omp_get_num_threads();
    }
    printf("cpus.omp_get_num_procs %d\n", omp_get_num_procs());
    printf("threads.omp_get_max_threads %d\n", omp_get_max_threads());
    printf("threads.omp_get_num_threads %d\n", team);
    return 0;
}
