"""The small speech model that is built in: made from local synthesis alone, and extended with the words of the agents.

`python -m voisnap_mock.audio.tiny_model` makes it; a server only uses `extension`, which adds words.
"""
