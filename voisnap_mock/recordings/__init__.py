"""The recordings folder, which lies beside the agents file. No other package touches it.

    recordings/
      prompts/      what agents play, by name                       `Recordings`
      utterances/   what callers said, each with its text           `Utterances`
      calls/        recorded calls, where `--record` names it     `CallArchive`, `Recorder`

The user's cache (`cache.py`) has a folder of utterances too, of the same form: what `voisnap-mock say` spoke.
"""

from voisnap_mock.recordings.archive import CallArchive, NoAudio, NoSuchCall, zip_of
from voisnap_mock.recordings.prompts import Recordings
from voisnap_mock.recordings.recorder import Recorder
from voisnap_mock.recordings.utterances import KnownUtterance, Utterances, Version

__all__ = [
    "CallArchive",
    "KnownUtterance",
    "NoAudio",
    "NoSuchCall",
    "Recorder",
    "Recordings",
    "Utterances",
    "Version",
    "zip_of",
]
