#!/bin/sh
# Compiles primes.c inside the session and runs it; arguments go to the program.
set -eu

compiler=
for name in "${CC:-cc}" gcc clang tcc; do
    if command -v "$name" > /dev/null 2>&1; then
        compiler=$name
        break
    fi
done
if [ -z "$compiler" ]; then
    echo "there is no C compiler in this image" >&2
    exit 1
fi

# Outside /work, so that the program does not come back with the results.
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
"$compiler" -O2 -std=c11 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -o "$build/primes" primes.c
echo "compiled with $("$compiler" --version | head -n 1)"
"$build/primes" "$@" | tee primes.txt
