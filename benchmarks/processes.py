"""Memory and CPU time of processes, read from /proc; the environment of a process with one thread."""

import os
import re
from pathlib import Path

ONE_THREAD = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def read_memory_gb(pid):
    """Returns the memory that a process holds now, in GB (10^9 bytes)."""
    return _read_status(pid, "VmRSS")


def read_peak_memory_gb():
    """Returns the largest memory that this process has held, in GB; `ru_maxrss` would include the parent's peak."""
    return _read_status("self", "VmHWM")


def read_cpu_seconds(pid):
    """Returns the CPU seconds that a process has used so far, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _read_status(pid, name):
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024 / 1e9
