"""Whether DALI can be had here: one build of it, for this Python and NumPy, that has code for this GPU."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

import numpy as np
import torch

from configs.errors import UserError

Capability = tuple[int, int]  # compute capability of a GPU, major and minor


@dataclass(frozen=True)
class Build:
    """What a build of DALI can be used with, as its wheel has it.

    Attributes:
        lowest, highest: compute capabilities that it has code for; a minor number above `highest` runs the same code.
        pythons: the first and the last minor version of Python 3.
    """

    lowest: Capability
    highest: Capability
    pythons: tuple[int, int]


# Read off the wheels: 1.34.0 of cuda110, the last that the package index has, and 2.4.0 of the others.
BUILDS = {
    "cuda110": Build((3, 5), (9, 0), (8, 12)),
    "cuda120": Build((5, 0), (12, 0), (10, 15)),
    "cuda130": Build((7, 5), (12, 0), (10, 15)),
}
OWN_ENVIRONMENT = "each build needs an environment of its own: make env EXTRA={extra} makes one"


def package_of(extra: str) -> str:
    """The package that has a build."""
    return f"nvidia-dali-{extra}"


def installed_builds() -> dict[str, str]:
    """The builds that are installed here, and their versions."""
    found = {}
    for extra in BUILDS:
        try:
            found[extra] = version(package_of(extra))
        except PackageNotFoundError:
            continue
    return found


def import_graph(device: torch.device) -> ModuleType:
    """Import pipeline.graph, which imports DALI, once it is known that DALI can be used on `device`.

    Raises:
        UserError: it cannot; the message says why, and what to install.
    """
    builds = installed_builds()
    problem = wrong_builds(builds)
    if problem is None and device.type == "cuda":
        name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
        problem = wrong_gpu(next(iter(builds)), name, capability)
    if problem:
        raise UserError(problem)
    try:
        return import_module("pipeline.graph")
    except (ImportError, AttributeError) as error:
        if isinstance(error, AttributeError) and "numpy" not in str(error):  # no name that another NumPy has
            raise
        minor = int(platform.python_version_tuple()[1])
        raise UserError(wrong_surroundings(builds, minor, np.__version__, error)) from error


def wrong_builds(builds: Mapping[str, str]) -> str | None:
    """Say what is wrong where not exactly one build is installed; `builds` are names and versions."""
    if not builds:
        return (
            "DALI is not installed; pip install '.[cuda110]' (or cuda120, cuda130) installs a build, which needs no GPU"
        )
    if len(builds) > 1:
        found = " and ".join(f"{package_of(extra)} {number}" for extra, number in builds.items())
        packages = " ".join(map(package_of, builds))
        return (
            f"{found} are both installed, and own the same files; pip uninstall {packages}, then install one; "
            + OWN_ENVIRONMENT.format(extra=max(builds))
        )
    return None


def wrong_gpu(extra: str, gpu: str, capability: Capability) -> str | None:
    """Say what is wrong where a build has no code for a GPU of this compute capability."""
    if _drives(BUILDS[extra], capability):
        return None
    build, others = BUILDS[extra], [name for name, other in BUILDS.items() if _drives(other, capability)]
    lowest, highest = _dotted(build.lowest), _dotted(build.highest)
    way_out = "" if not others else f"install {' or '.join(others)} ({OWN_ENVIRONMENT.format(extra=others[-1])}), or "
    return (
        f"loader.device: {gpu} has compute capability {_dotted(capability)}, but {package_of(extra)} has code for "
        f"{lowest} to {highest} alone; {way_out}decode on the CPU: loader.device=cpu"
    )


def wrong_surroundings(builds: Mapping[str, str], python: int, numpy: str, error: Exception) -> str:
    """Say why importing the one build that is installed failed: `python` is the minor version of Python 3."""
    ((extra, number),) = builds.items()
    first, last = BUILDS[extra].pythons
    name = f"{package_of(extra)} {number}"
    if not first <= python <= last:
        return (
            f"{name} is for Python 3.{first} to 3.{last}, this is 3.{python}; make an environment with one of those: "
            f"make env EXTRA={extra} PYTHON=python3.{min(last, 12)}"
        )
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    if "numpy" in str(error).lower():
        return f"{name} cannot be used with NumPy {numpy} ({reason}); pip install 'numpy<2', or a later build of DALI"
    return f"{name} cannot be imported ({reason}); pip install --force-reinstall {package_of(extra)}=={number}"


def _drives(build: Build, capability: Capability) -> bool:
    return build.lowest <= capability and capability[0] <= build.highest[0]


def _dotted(capability: Capability) -> str:
    return ".".join(map(str, capability))
