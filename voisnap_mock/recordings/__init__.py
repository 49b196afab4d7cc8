"""The recordings folder, which lies beside the agents file. No other package touches it.

    recordings/
      prompts/      what agents play, by name                       `Recordings`
      utterances/   what callers said, each with its text           `Utterances`
      calls/        recorded calls, where `--record` names it     `CallArchive`, `Recorder`

The user's cache (`cache.py`) has a folder of utterances too, of the same form: what `voisnap-mock say` spoke.
"""
