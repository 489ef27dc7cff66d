"""How many tokens of one text the known models read."""

from __future__ import annotations

import re

CONTEXT_TOKENS = {
    "text-embedding-3-small": 8191,
    "text-embedding-3-large": 8191,
    "text-embedding-ada-002": 8191,
    # As Ollama packs it: the model itself was trained for 2,048, and is stretched elsewhere.
    "nomic-embed-text": 2048,
    "mxbai-embed-large": 512,
    "all-minilm": 256,
    "bge-small-en": 512,
    "bge-base-en": 512,
    "bge-large-en": 512,
    "bge-m3": 8192,
    "snowflake-arctic-embed2": 8192,
    "multilingual-e5-large-instruct": 512,
}
"""By the name without owner, tag and version. What a server makes of it may be less:
TEXT_MAX_TOKENS is for that, and for models that are not here."""

_TAIL = re.compile(r"(:[\w.-]+)?$")
_VERSION = re.compile(r"-v\d+(\.\d+)?$")


def text_tokens(model: str, text_max_tokens: int) -> int:
    """Estimated tokens at which a text is cut: the setting, or less where the model reads less."""
    name = _TAIL.sub("", model.lower().rpartition("/")[2], count=1)
    known = CONTEXT_TOKENS.get(name) or CONTEXT_TOKENS.get(_VERSION.sub("", name))
    return min(text_max_tokens, known) if known else text_max_tokens
