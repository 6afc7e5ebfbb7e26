"""Check of the DALI installation: exactly one build, and one that can be imported."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from common.errors import UserError

EXTRAS = ("cuda110", "cuda120", "cuda130")  # of this project; each installs a build of DALI


def installed_builds() -> dict[str, str]:
    """The packages of DALI that are installed here, and their versions."""
    found = {}
    for package in (f"nvidia-dali-{extra}" for extra in EXTRAS):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def check_installed() -> None:
    """Refuse to go on without a build of DALI that can be imported.

    Raises:
        UserError: there is none, or two that own the same files, or importing it fails; the message says what to do.
    """
    builds = installed_builds()
    names = " and ".join(f"{package} {number}" for package, number in builds.items())
    if not builds:
        raise UserError(
            "DALI is not installed; pip install '.[cuda110]' (or cuda120, cuda130) installs a build, which needs no GPU"
        )
    if len(builds) > 1:
        raise UserError(
            f"{names} are both installed, and own the same files; pip uninstall {' '.join(builds)}, then install one; "
            f"each build needs an environment of its own: make env EXTRA={max(builds).rsplit('-', 1)[1]} makes one"
        )
    try:
        import_module("nvidia.dali.fn")
    except Exception as error:  # of the loader of libraries, of NumPy, of DALI: whatever does not fit
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"{names} cannot be imported: {reason}; another build may fit this machine: "
            f"make env EXTRA={EXTRAS[-1]} makes an environment with one"
        ) from error
