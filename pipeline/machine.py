"""What numbers were measured on: processor, cores, devices, versions."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch

DALI_PACKAGES = ("nvidia-dali-cuda110", "nvidia-dali-cuda120", "nvidia-dali-cuda130")


def describe_machine() -> dict[str, str]:
    """Names and versions of what a measurement depends on."""
    return {
        "cpu": f"{_processor()}, {os.cpu_count()} cores",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "dali": _dali_version(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _dali_version() -> str:
    for package in DALI_PACKAGES:
        try:
            return f"{version(package)} ({package.rsplit('-', 1)[1]})"
        except PackageNotFoundError:  # one of them is installed, for one version of CUDA
            continue
    return "not installed"
