"""Options that many commands have."""

from __future__ import annotations

from typing import Annotated

import typer

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

UrlOption = Annotated[
    str | None,
    typer.Option(
        help="The server; else VOISNAP_MOCK_URL, VOISNAP_BASE_URL, http://127.0.0.1:8647.",
        metavar="URL",
        show_default=False,
    ),
]
TenantOption = Annotated[
    str | None, typer.Option(metavar="ID", help="Whose things to look at.", show_default="ten_dev")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
