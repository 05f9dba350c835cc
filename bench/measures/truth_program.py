"""What `truth` runs: eigenvalues of one matrix; prints the seconds and what numpy sees."""

import json
import os
import sys
import time

import numpy

size = int(sys.argv[1])
matrix = numpy.random.default_rng(1).standard_normal((size, size))
began = time.perf_counter()
numpy.linalg.eigvals(matrix)
seconds = time.perf_counter() - began
threads = len(os.listdir("/proc/self/task"))
print(json.dumps({"seconds": seconds, "cpus": os.cpu_count(), "threads": threads}))
