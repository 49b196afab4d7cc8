"""Has a job done in a process of its own, see `job`. Blocks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from io import BytesIO

from voisnap_mock.audio.espeak import worker_environment
from voisnap_mock.audio.espeak_worker import Message, encode, receive


class JobFailed(Exception):
    """The text says why."""


class JobTimedOut(JobFailed):
    """It took too long."""


def do(job: Mapping[str, object], *, timeout: float) -> tuple[Message, bytes]:
    """The answer to this job, and its data.

    Raises:
        JobFailed: there is none, for example because espeak is not there or took longer than `timeout` seconds.
    """
    try:
        process = subprocess.run(
            [sys.executable, "-P", "-m", "voisnap_mock.audio.tiny_model.job"],
            input=encode(dict(job)),
            capture_output=True,
            env=worker_environment(),
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise JobTimedOut(f"the process that reads texts took longer than {timeout:g} s") from None
    except OSError as error:
        raise JobFailed(f"the process that reads texts could not be started: {error}") from error
    answer = receive(BytesIO(process.stdout))
    if answer is None:
        said = process.stderr.decode(errors="replace").strip().splitlines()
        raise JobFailed(
            f"the process that reads texts ended with exit code {process.returncode}{f': {said[-1]}' if said else ''}"
        )
    if "problem" in answer[0]:
        raise JobFailed(answer[0]["problem"])
    return answer
