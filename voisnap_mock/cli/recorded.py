"""Where a recorded call that a command was given comes from: a folder, a zip, or the server that had the call."""

from __future__ import annotations

import re
from pathlib import Path

from voisnap_mock.cli.failures import CheckFailed
from voisnap_mock.cli.service import ask, find_server, no_server, problem_text
from voisnap_mock.recordings.reading import RecordedCall, read_packed, read_record

_CALL_ID = re.compile(r"conv_\w+")


def find_record(source: str, *, url: str | None, tenant: str | None, with_audio: bool = True) -> RecordedCall:
    """The call of a folder or zip; a `conv_...` that is no file here is a call of the running server.

    Raises:
        ConfigError: it is no record, or cannot be read.
        CheckFailed: no server answers, or it does not know the call.
    """
    if not _CALL_ID.fullmatch(source) or Path(source).exists():
        return read_record(Path(source), with_audio=with_audio)
    server = find_server(url)
    try:
        answer = ask("GET", f"{server}/__voisnap/calls/{source}/file", tenant=tenant, timeout=30.0)
    except OSError as error:
        raise no_server(server, error) from error
    if answer.status != 200:
        raise CheckFailed(
            f"{source} is no file here, and {server} does not give it: {problem_text(answer.status, answer.body)}"
        )
    return read_packed(source, answer.data, with_audio=with_audio)
