"""The machine that figures come from: what matters for their size, and no names."""

import hashlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

NUMBERS = ("cpu family", "model", "stepping")
"""Of a processor, by which generations differ."""
PACKAGES = ("torch", "numpy", "polars", "scipy")


def describe() -> dict[str, Any]:
    """Processor, cores, memory and system, and a fingerprint of them."""
    machine: dict[str, Any] = {
        "processor": processor(),
        "cores": cores(),
        "memory_gib": memory_gib(),
        "system": system(),
    }
    return machine | {"fingerprint": fingerprint(machine)}


def fingerprint(machine: dict[str, Any]) -> str:
    """Equal for machines whose figures can be compared."""
    described = {key: value for key, value in machine.items() if key != "fingerprint"}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12]


def processor() -> str:
    """Its model name and number, or its architecture where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    return processor_of(text) or platform.machine()


def processor_of(cpuinfo: str) -> str:
    """What Linux tells of the first processor; empty if that is nothing.

    The numbers count: a virtual machine may call processors of different generations by one name,
    and one of them may be twice as fast as another.
    """
    first = cpuinfo.strip().partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    told = {key.strip(): value.strip() for key, _, value in pairs}
    numbers = [f"{key} {told[key]}" for key in NUMBERS if key in told]
    name = told.get("model name", "")
    return f"{name} ({', '.join(numbers)})".strip() if numbers else name


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_gib() -> int:
    """Memory in whole GiB: what is reserved differs a little between starts."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def system() -> str:
    """Operating system and architecture, without the versions that updates change."""
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name} {platform.machine()}"


def load() -> float:
    """Processes that wanted a core in the last minute."""
    return round(os.getloadavg()[0], 2)


def versions() -> dict[str, str]:
    """Of Python and of the packages whose speed shows in ours."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
