"""What the figures of a measurement depend on."""

from __future__ import annotations

import platform
from pathlib import Path

import msgspec

from shared.model import RUNTIME_VERSION

VNNI = ("avx512_vnni", "avx_vnni", "asimddp")
"""What Linux calls the instructions that sum products of 8 bits: x86 twice, Arm."""


class Machine(msgspec.Struct, frozen=True):
    """What the figures depend on.

    Attributes:
        cpu: the processor's name.
        sums_8_bits: whether it has an instruction for sums of products of 8 bits (VNNI).
        runtime: version of ONNX Runtime.
        threads: that a model ran on.
    """

    cpu: str
    sums_8_bits: bool
    runtime: str
    threads: int = 1


def describe(cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
    """Returns what this machine is; a system without ``/proc`` tells less."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    fields = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    flags = f"{fields.get('flags', '')} {fields.get('Features', '')}".split()
    name = fields.get("model name") or platform.processor() or platform.machine()
    return Machine(name, any(each in flags for each in VNNI), RUNTIME_VERSION)
