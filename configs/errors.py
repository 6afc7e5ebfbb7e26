"""The errors that a person's input can cause: one message each, never a traceback."""

import sys
from collections.abc import Callable, Sequence

from configs.memory import is_shortage, shortage


class UserError(Exception):
    """The work failed for a reason that the user can mend: where, what was found, what is allowed (exit code 1)."""

    exit_code = 1


class ConfigError(UserError):
    """The command line or the configuration is wrong (exit code 2)."""

    exit_code = 2


def listed(names: Sequence[str], most: int = 20, separator: str = ", ") -> str:
    """The first of some names, and how many more there are."""
    more = [f"... and {len(names) - most:,} more"] if len(names) > most else []
    return separator.join([*names[:most], *more])


def exit_code_of(work: Callable[[], int]) -> int:
    """Run a command's body and turn a user's mistake into one line on stderr and an exit code."""
    try:
        return work()
    except (UserError, OSError, RuntimeError) as error:
        print(f"error: {message(error)}", file=sys.stderr)
        return error.exit_code if isinstance(error, UserError) else UserError.exit_code


def message(error: UserError | OSError | RuntimeError) -> str:
    """What a person reads of it; for what the system refuses (a full disk, a folder that vanished) where and why.

    Raises:
        RuntimeError: the very error, where it is a fault of ours and not a want of memory.
    """
    if isinstance(error, RuntimeError):
        if not is_shortage(error):
            raise error
        return shortage(error)
    if isinstance(error, UserError) or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
