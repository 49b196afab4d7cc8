"""Numbers that look random and follow from a seed and a place. No state, so no order in which to ask for them."""

from __future__ import annotations

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15


def mix(seed: int, place: int) -> int:
    """64 bits for this place (splitmix64)."""
    z = (seed + place * _STEP) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def draw(seed: int, place: int) -> float:
    """A number from 0.0 to less than 1.0 for this place."""
    return (mix(seed, place) >> 11) * 2.0**-53
