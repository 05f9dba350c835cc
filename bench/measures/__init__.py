"""The benchmarks, one a file: each has a TITLE, a METHOD and a `measure`."""

NAMES = ["start", "run", "detach", "rest", "bytes", "truth", "placements", "array"]
