"""`python -m voisnap_mock` is the command `voisnap-mock`."""

from __future__ import annotations

import sys

from voisnap_mock.cli import main

sys.exit(main())
