"""The errors that a person's input can cause: one message each, never a traceback."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """The work failed for a reason that the user can mend: where, what was found, what is allowed (exit code 1)."""

    exit_code = 1


class ConfigError(UserError):
    """The command line or the configuration is wrong (exit code 2)."""

    exit_code = 2


def exit_code_of(work: Callable[[], int]) -> int:
    """Run a command's body and turn a user's mistake into one line on stderr and an exit code."""
    try:
        return work()
    except (UserError, OSError) as error:
        print(f"error: {message(error)}", file=sys.stderr)
        return UserError.exit_code if isinstance(error, OSError) else error.exit_code


def message(error: UserError | OSError) -> str:
    """What a person reads of it; for what the system refuses (a full disk, a folder that vanished) where and why."""
    if isinstance(error, UserError) or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
