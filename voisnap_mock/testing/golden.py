"""Golden files: what a call was, as text that people read and review.

    # A call as a test expects it. Rewritten by: pytest --voisnap-update
    agent     Hi, this is Acme. How can I help?
    caller    I want a refund
    keys      0
    transfer  warm to +15550100: Asked for a person
    ended     transfer_complete

What differs from machine to machine is not in it: no ids, no confidence, no real time. Call times are in it when they
are asked for; on a virtual clock they are the same everywhere.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from voisnap_mock.errors import ExpectationFailed
from voisnap_mock.testing.story import Moment

# A failed test shows its own lines, not these.
__tracebackhide__ = True

_HEAD = "# A call as a test expects it. Rewritten by: pytest --voisnap-update\n"
# What belongs to the program under test or to this one, not to the conversation.
_LEFT_OUT = frozenset({"started", "lint", "refused", "defect", "wrong", "unused", "tool"})


@dataclass(frozen=True, slots=True)
class GoldenFiles:
    """Where golden files are, and whether they may be written.

    Attributes:
        folder: what their names are relative to.
        update: write them anew instead of comparing.
        is_ci: nobody is there to read what would be written: nothing ever is.
    """

    folder: Path
    update: bool = False
    is_ci: bool = False

    def check(self, name: str | Path, text: str) -> None:
        """Compare `text` with the golden file of that name, or write it.

        Raises:
            ExpectationFailed: it differs, it is not there, or it was to be written where nothing may be.
        """
        path = self.folder / name
        try:
            golden: str | None = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            golden = None
        except (OSError, UnicodeError) as error:
            raise ExpectationFailed(f"golden file {path} cannot be read: {error}") from error
        if golden is not None and _lines(golden) == _lines(text):
            return
        if self.update and not self.is_ci:
            self._write(path, text)
            return
        not_here = "; on CI (the variable CI is set) nothing is written: run it on your own machine" * self.is_ci
        if golden is None:
            raise ExpectationFailed(
                f"golden file {path} is not there: pytest --voisnap-update writes it{not_here}. The call was:\n{text}"
            )
        diff = "\n".join(
            difflib.unified_diff(_lines(golden), _lines(text), f"{path.name} (golden)", "this call", lineterm="")
        )
        raise ExpectationFailed(
            f"the call is not the one of {path}; if it is right as it is: pytest --voisnap-update{not_here}\n{diff}"
        )

    def _write(self, path: Path, text: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise ExpectationFailed(f"golden file {path} cannot be written: {error.strerror}") from error


def golden_text(moments: Iterable[Moment], *, times: bool = False) -> str:
    """The call as a golden file has it; with `times`, each line begins with the call time at which it was over."""
    lines = []
    for moment in moments:
        if moment.who in _LEFT_OUT:
            continue
        at = f"{moment.t:8.3f}  " if times else ""
        text = " ".join(moment.text.split()) + (" [interrupted]" if moment.interrupted else "")
        lines.append(f"{at}{moment.who:<8}  {text}".rstrip())
    return _HEAD + "".join(f"{line}\n" for line in lines)


def is_ci(environment: Mapping[str, str]) -> bool:
    """Whether a machine runs the tests: `CI` is set, and says neither no nor nothing."""
    return environment.get("CI", "").strip().casefold() not in ("", "0", "false", "no")


def _lines(text: str) -> list[str]:
    """Without comments and line ends, which are nobody's mistake."""
    return [line.rstrip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
