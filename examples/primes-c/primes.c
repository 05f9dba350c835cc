/* Counts the primes below a number by a segmented sieve of Eratosthenes: odd numbers only, one
 * byte for each, in pieces that fit into a processor's cache. */

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PIECE = 1 << 18 };
static const uint64_t LARGEST = 100000000000ULL;

/* Odd primes up to `limit`, ended by 0; the caller frees them. */
static uint32_t *small_primes(uint32_t limit) {
    unsigned char *composite = calloc(limit + 1, 1);
    uint32_t *primes = malloc((limit / 2 + 2) * sizeof *primes);
    size_t count = 0;
    if (composite == NULL || primes == NULL) {
        perror("primes");
        exit(1);
    }
    for (uint32_t number = 3; number <= limit; number += 2) {
        if (composite[number]) continue;
        primes[count++] = number;
        for (uint64_t multiple = (uint64_t)number * number; multiple <= limit; multiple += 2 * number)
            composite[multiple] = 1;
    }
    primes[count] = 0;
    free(composite);
    return primes;
}

static uint32_t square_root(uint64_t number) {
    uint64_t root = 0;
    for (uint64_t bit = 1ULL << 31; bit > 0; bit >>= 1)
        if ((root + bit) * (root + bit) <= number) root += bit;
    return (uint32_t)root;
}

int main(int argc, char **argv) {
    char *end = NULL;
    errno = 0;
    uint64_t limit = strtoull(argc > 1 ? argv[1] : "1000000000", &end, 10);
    if (argc > 2 || errno != 0 || *end != '\0' || limit < 3 || limit > LARGEST) {
        fprintf(stderr, "usage: primes [LIMIT]\n  LIMIT is from 3 to %" PRIu64 "\n", LARGEST);
        return 2;
    }
    struct timespec start, stop;
    clock_gettime(CLOCK_MONOTONIC, &start);
    uint32_t *primes = small_primes(square_root(limit) + 1);
    static unsigned char piece[PIECE];
    uint64_t count = 1; /* 2 is the only even one. */
    int told = 0;
    /* piece[i] stands for the odd number low + 2i. */
    for (uint64_t low = 3; low < limit; low += 2 * PIECE) {
        memset(piece, 0, sizeof piece);
        uint64_t high = low + 2 * PIECE;
        for (const uint32_t *prime = primes; *prime != 0; prime++) {
            uint64_t p = *prime, first = p * p;
            if (first >= high) break;
            if (first < low) {
                first = (low + p - 1) / p * p;
                if (first % 2 == 0) first += p;
            }
            for (uint64_t index = (first - low) / 2; index < PIECE; index += p) piece[index] = 1;
        }
        uint64_t numbers = limit > high ? PIECE : (limit - low + 1) / 2;
        for (uint64_t index = 0; index < numbers; index++) count += !piece[index];
        int done = (int)((low < limit ? low : limit) * 10 / limit);
        if (done > told) {
            told = done;
            printf("%3d %%\n", done * 10);
            fflush(stdout);
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &stop);
    double seconds = (double)(stop.tv_sec - start.tv_sec) + (double)(stop.tv_nsec - start.tv_nsec) / 1e9;
    printf("%" PRIu64 " primes below %" PRIu64 " in %.2f s\n", count, limit, seconds);
    free(primes);
    return 0;
}
