"""Text of others on a terminal: shown, never obeyed."""

from __future__ import annotations

import json


def shown(text: str, keep: str = "") -> str:
    """`text` with everything escaped that is not printable, but for what is in `keep`.

    Escape sequences move the cursor, forge lines and set the window's title; marks of
    direction make text look like another. The escapes are JSON's, so that JSON stays JSON.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in keep else json.dumps(one)[1:-1] for one in text
    )
