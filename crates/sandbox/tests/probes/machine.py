"""What libraries of Python are told of their machine."""

import multiprocessing
import os
import shutil
import subprocess

import joblib
import loky
import numpy
import psutil
import threadpoolctl


def told(name, value):
    print(name, value)


# Threads of OpenBLAS start with it, and work with the first one.
before = len(os.listdir("/proc/self/task"))
matrix = numpy.ones((256, 256))
matrix @ matrix
told("threads.tasks", before)
pools = [pool for pool in threadpoolctl.threadpool_info() if pool["internal_api"] == "openblas"]
told("threads.openblas", pools[0]["num_threads"])
told("cpus.joblib", joblib.cpu_count())
told("cpus.loky", loky.cpu_count())
told("cpus.multiprocessing", multiprocessing.cpu_count())
told("cpus.psutil", psutil.cpu_count())
told("cpus.psutil_affinity", len(psutil.Process().cpu_affinity()))
told("cpus.psutil_times", len(psutil.cpu_times(percpu=True)))
told("cores.joblib", joblib.cpu_count(only_physical_cores=True))
told("cores.psutil", psutil.cpu_count(logical=False))
if hasattr(os, "process_cpu_count"):
    told("cpus.process_cpu_count", os.process_cpu_count())
if shutil.which("lscpu"):
    lines = subprocess.check_output(["lscpu", "--parse=CPU"], text=True).splitlines()
    told("cpus.lscpu", len([line for line in lines if not line.startswith("#")]))
told("memory.psutil", psutil.virtual_memory().total)
