"""Tries every attack once, from where it is started, and tells each as a line of JSON.

The first argument is what there is on the node (see Situation in kernel.py). The same program runs
in a plain container, where attacks have to get through, and in sessions, where none may.
"""
import exhaustion  # noqa: F401  each of these adds rows
import kernel
import machine  # noqa: F401
import node  # noqa: F401
import rights  # noqa: F401

kernel.main()
