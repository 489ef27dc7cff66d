"""Lua scripts that the client may send again when their answer was lost.

The client repeats a command whose connection breaks, and cannot know whether it ran. A
repeated script does nothing, and returns the first answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import redis

_REMEMBERED_MS = 60_000
"""How long an answer is kept: much longer than the client retries (see `client.connect`)."""

# The last of KEYS is where the answer is kept; the script itself sees the others.
# cmsgpack keeps whole numbers whole: cjson has 14 digits of them.
_ONCE = """
local kept, keys = KEYS[#KEYS], {}
for i = 1, #KEYS - 1 do keys[i] = KEYS[i] end
local function run(KEYS, ARGV)
%(script)s
end
local before = redis.call('GET', kept)
if before then return cmsgpack.unpack(before)[1] end
local answer, nothing_done = run(keys, ARGV)
if nothing_done then return answer end
redis.call('SET', kept, cmsgpack.pack({answer}), 'PX', %(ms)d)
return answer
"""


class Once:
    """A script that runs once for each call, however often the client sends it."""

    def __init__(self, client: redis.Redis, prefix: str, script: str) -> None:
        """`script` returns integers, lists of them or nothing. It may return true as a second
        value if it changed nothing: then its answer is not kept."""
        self._answers = f"{prefix}answer:"
        self._script = client.register_script(_ONCE % {"script": script, "ms": _REMEMBERED_MS})

    def __call__(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run the script once, and return its answer. Raises the client's errors."""
        return self._script(keys=[*keys, f"{self._answers}{uuid4().hex}"], args=list(args))
