"""How a command ends when it cannot do its work: one exit code for each kind of reason.

code  means                                     raised as
----  ----------------------------------------  -------------------------------
   1  a check failed, or the far side refused   CheckFailed
   2  the command was used wrongly              typer.BadParameter, Typer itself
   3  a file, flag or setting is wrong          errors.ConfigError
   4  the port is taken or not allowed          errors.PortTaken, PermissionError
   5  not ready in time                         NotReady
 130  interrupted twice                         KeyboardInterrupt
"""

from __future__ import annotations

from voisnap_mock.errors import ConfigError, PortTaken, VoisnapMockError


class CheckFailed(VoisnapMockError):
    """What was asked for did not happen; the text says what and what to do next."""


class NotReady(VoisnapMockError):
    """A server did not become ready in time."""


INTERRUPTED = 130


def exit_code(error: BaseException) -> int:
    """The exit code that stands for `error`."""
    match error:
        case ConfigError():
            return 3
        case PortTaken() | PermissionError():
            return 4
        case NotReady():
            return 5
        case KeyboardInterrupt():
            return INTERRUPTED
        case _:
            return 1
