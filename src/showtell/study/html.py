"""The page as one file: style, script and data inside, and a policy that forbids it to ask for anything."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "page"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="robots" content="noindex">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
<script type="application/json" id="study">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def page(data: Mapping[str, Any], *, title: str) -> str:
    """The whole page. Whatever the data hold is text to it, never markup."""
    style, script, body = (
        (HERE / name).read_text(encoding="utf-8") for name in ("study.css", "study.js", "study.html")
    )
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    heading = html.escape(title.encode("utf-8", "replace").decode())
    return _PAGE.format(
        policy=policy, title=heading, style=style, body=body.strip(), data=embedded(data), script=script
    )


def embedded(data: Any) -> str:
    """JSON that can stand in a script element: no character of it is markup."""
    told = json.dumps(data, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return told.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
