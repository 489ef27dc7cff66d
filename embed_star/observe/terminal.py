"""Escapes foreign text, so that a terminal shows it and does not obey it."""

from __future__ import annotations

import json


def shown(text: str, keep: str = "") -> str:
    """`text` with every unprintable character escaped, except those in `keep`.

    Escape sequences move the cursor, forge lines and set the window's title, and bidirectional
    marks reorder text. The escapes are JSON's, so JSON stays JSON. Example: "a\\x1b[2J"
    becomes "a\\u001b[2J".
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in keep else json.dumps(one)[1:-1] for one in text
    )
