"""The most that a device could compute, which MFU is held against; unknown where no data sheet or measurement tells."""

import json
import subprocess
import sys
from dataclasses import dataclass

_TERA = 1e12
DATA_SHEETS = {
    "NVIDIA A100-SXM4-40GB": {"bfloat16": 312, "float16": 312, "float32": 19.5},
    "NVIDIA A100-SXM4-80GB": {"bfloat16": 312, "float16": 312, "float32": 19.5},
    "NVIDIA A100-PCIE-40GB": {"bfloat16": 312, "float16": 312, "float32": 19.5},
    "NVIDIA A100 80GB PCIe": {"bfloat16": 312, "float16": 312, "float32": 19.5},
    "NVIDIA H100 80GB HBM3": {"bfloat16": 989.4, "float16": 989.4, "float32": 66.9},
    "NVIDIA H200": {"bfloat16": 989.4, "float16": 989.4, "float32": 66.9},
    "NVIDIA H100 PCIe": {"bfloat16": 756, "float16": 756, "float32": 51.2},
    "NVIDIA L4": {"bfloat16": 121, "float16": 121, "float32": 30.3},
}
"""TFLOP/s of dense products by NVIDIA's data sheets, by the name that the driver tells; float32 without TF32."""


@dataclass(frozen=True)
class Peak:
    """Operations a second of one process's device."""

    flops_per_second: float
    source: str
    """Where the number comes from, as a sentence that stands beside MFU."""


def known(device: str, precision: str) -> Peak | None:
    """The peak of a device by its data sheet."""
    rate = DATA_SHEETS.get(device, {}).get(precision)
    return None if rate is None else Peak(rate * _TERA, f"data sheet of {device}, dense {precision}")


def measured(precision: str, threads: int) -> Peak | None:
    """The rate of a large product on this processor, by a process of its own; None where it cannot be made."""
    command = [sys.executable, "-m", "trainer.bench.matrix_rate", precision, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    told = json.loads(done.stdout)
    noun = f"thread{'s' if threads > 1 else ''}"
    return Peak(told["flops_per_second"], f"measured: {precision} products of {told['size']} on {threads} {noun}")
