"""An offline stand-in for the Voisnap voice-agent API."""

__version__ = "0.1.0"
