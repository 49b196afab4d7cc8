"""Ids, from one seeded source, so that the same run names things the same."""

from __future__ import annotations

import base64
import random

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class IdSource:
    """Makes ids that look like the service's: a prefix and a shortened ULID that starts with `01HX`.

    Ids name things; they keep no secret. Secrets come from the `secrets` module.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def new(self, prefix: str) -> str:
        """For example `new("conv_")` -> `conv_01HXT3Q9YB4N7C`."""
        return f"{prefix}01HX{''.join(self._random.choices(_ALPHABET, k=10))}"

    def connection_id(self) -> str:
        """22 characters: 16 bytes in base64url without padding, as ASP.NET Core makes them."""
        return base64.urlsafe_b64encode(self._random.randbytes(16)).rstrip(b"=").decode()
