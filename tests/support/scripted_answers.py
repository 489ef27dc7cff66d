"""What the scripted provider answers: a vector for each text, and the script of faults."""

from __future__ import annotations

import binascii
import hashlib
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

POOL = 1024
"""Vectors that the instant mode chooses from (a power of two)."""

BAD_VECTORS = ("nan", "infinity", "null", "null_vector", "string", "zero", "constant")

FAULTS = (
    "html",  # 200 and a page
    "empty_object",  # {}
    "array",  # [1]
    "not_json",  # words
    "torn_json",  # half of the JSON, with a Content-Length that fits it
    "truncated",  # half of the bytes that Content-Length announces
    "bad_gzip",  # Content-Encoding: gzip, and noise
    "gzip_bomb",  # 64 MiB of blanks in 64 KiB
    "gzip",  # a good answer, compressed (no fault at all)
    "drip",  # headers, then one byte each drip_s
    "drip_headers",  # one byte each drip_s from the start
    "giant",  # announces 1 TB
    "giant_chunked",  # announces nothing, and never ends
    "reset",  # closes without a word
    "hang",  # never answers
    "redirect",  # 307 to `location`
)


@dataclass(frozen=True, slots=True)
class Script:
    """How the provider behaves; `POST /script` changes any of these fields."""

    dimensions: int = 768
    latency_ms: float = 0.0
    latency_sigma: float = 0.0
    """Spread of the latency: log-normal with `latency_ms` as its median; 0: always the same."""
    model: str | None = None
    """Answer for this model instead of the one asked for; "" answers no name."""
    salt: str = ""
    """Other vectors, as those of another model: of this and the text."""
    norm: float = 0.0
    """Euclidean length of every vector; 0: about 1."""
    scaled: dict[str, float] = field(default_factory=dict)
    """Part of a text to what its vector's length is multiplied by; needs `norm`."""
    auth: str | None = None
    """The only bearer key accepted."""
    requests_per_minute: int = 0
    """More than this many in a minute get 429; 0: no limit."""
    fail_next: int = 0
    """So many requests get `status`; -1: all of them."""
    status: int = 503
    error: Any = None
    """The JSON body of failures; None: one in the provider's own shape."""
    retry_after: str | None = None
    most_at_once: int = 0
    """More calls than this at once get 429, without delay; 0: any number."""
    serves: int = 0
    """Works on so many calls at once, and the others wait for their turn; 0: on any number."""
    throttle_over: int = 0
    """Calls of more characters, all texts together, get 429; 0: none."""
    poison: str | None = None
    """`poison_status` when any text contains this."""
    poison_status: int = 400
    crash: str | None = None
    """The connection breaks when any text contains this."""
    flaky: float = 0.0
    """Share of calls, 0 to 1, whose connection breaks: by a seed, so the same each time."""
    bad_vectors: dict[str, str] = field(default_factory=dict)
    """Kind, one of `BAD_VECTORS`, to a part of the texts that get such a vector."""
    fault: str | None = None
    """One of `FAULTS`."""
    fault_next: int = -1
    """So many requests get `fault`; -1: all of them."""
    drip_s: float = 1.0
    location: str = "http://127.0.0.1:9/v1/embeddings"
    shuffle: bool = False
    count_delta: int = 0
    """So many vectors more (1) or fewer (-1) than texts."""
    vectors_max: int = 0
    """So many vectors at most, however many texts; 0: one for each."""
    indexes: str = ""
    """"same" gives each vector index 0, "none" leaves them out, "null" and "float" write
    them so, "no_zero" leaves only that one out."""
    encoding_format: str = "honour"
    """What is done with `encoding_format`: honour, ignore (answers lists), refuse (400),
    double (float64), empty_data, empty_vectors, nested or garbage."""
    refusal: Any = None
    """[status, body] of what `encoding_format` is refused with; text is sent as such."""
    shortens: bool | None = None
    """Whether `dimensions` is heeded, False: ignored, None: if the script has no others."""
    headers: dict[str, str] = field(default_factory=dict)
    """More headers of failures."""
    loads_ms: float = 0.0
    """How long the model takes to load, anew whenever whoever waits for it goes away."""

    def changed(self, changes: dict[str, Any]) -> Script:
        """A script with `changes`. Raises ValueError for a name that means nothing."""
        bad = {key: changes.pop(key) for key in BAD_VECTORS if key in changes}
        if bad:
            changes["bad_vectors"] = bad
        unknown = set(changes) - {one.name for one in fields(self)}
        if unknown or changes.get("fault") not in (None, *FAULTS):
            raise ValueError(f"no such script: {sorted(unknown) or changes['fault']}")
        return replace(self, **changes)


def vector_for(text: str, dimensions: int) -> NDArray[np.float32]:
    """The vector of `text`: the same at all times, another for another text, of length ~1."""
    return _levels(dimensions)[np.frombuffer(_digest(text, dimensions), np.uint8)]


def _digest(text: str, dimensions: int) -> bytes:
    return hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(dimensions)


@cache
def _levels(dimensions: int) -> NDArray[np.float32]:
    # Uniform in [-1, 1] has a variance of 1/3, so this makes the expected length 1.
    steps = (np.arange(256) - 127.5) / 127.5 * np.sqrt(3 / dimensions)
    return np.asarray(steps, dtype=np.float32)


@cache
def _level_texts(dimensions: int) -> list[bytes]:
    return [str(level).encode() for level in _levels(dimensions)]


def _scaled(text: str, script: Script, packed: str) -> bytes:
    """As `_rendered`, with the script's length."""
    vector = vector_for(text, script.dimensions)
    factors = (factor for part, factor in script.scaled.items() if part in text)
    vector *= math.prod(factors, start=script.norm / float(np.linalg.norm(vector)))
    if packed:
        return b'"' + binascii.b2a_base64(vector.astype(packed).tobytes(), newline=False) + b'"'
    return json.dumps([float(value) for value in vector]).encode()


def _rendered(text: str, dimensions: int, packed: str) -> bytes:
    """The vector as a JSON value: base64 of numbers of type `packed`, or a list."""
    if packed:
        data = vector_for(text, dimensions).astype(packed).tobytes()
        return b'"' + binascii.b2a_base64(data, newline=False) + b'"'
    texts = _level_texts(dimensions)
    return b"[" + b",".join([texts[level] for level in _digest(text, dimensions)]) + b"]"


@cache
def _pool(dimensions: int, packed: str) -> list[bytes]:
    return [_rendered(f"pool {number}", dimensions, packed) for number in range(POOL)]


def rendered(texts: Sequence[str], script: Script, packed: str, instant: bool) -> list[bytes]:
    """A JSON value for each text."""
    if instant:
        pool = _pool(script.dimensions, packed)
        crc32 = zlib.crc32
        return [pool[crc32(text.encode("utf-8", "replace")) & (POOL - 1)] for text in texts]
    salted = [script.salt + text for text in texts]
    if script.norm:
        values = [_scaled(text, script, packed) for text in salted]
    else:
        values = [_rendered(text, script.dimensions, packed) for text in salted]
    for kind, part in script.bad_vectors.items():
        for row, text in enumerate(texts):
            if part in text:
                values[row] = _bad(kind, vector_for(text, script.dimensions))
    return values


def spoilt(values: list[bytes], how: str) -> list[bytes]:
    """`values` as servers answer them that stumble over `encoding_format`."""
    if how == "empty_data":
        return []
    form = {"empty_vectors": b"[]", "garbage": b'"no base64!"', "nested": b"[%b,%b]"}.get(how)
    if form is None:
        return values
    return [form % (value, value) if how == "nested" else form for value in values]


def _bad(kind: str, vector: NDArray[np.float32]) -> bytes:
    if kind in ("nan", "infinity"):
        vector[1] = np.nan if kind == "nan" else np.inf
    values: list[Any] = [float(value) for value in vector]
    if kind in ("null", "string"):
        values[1] = None if kind == "null" else "oops"
    if kind in ("zero", "constant"):
        values = [0.0 if kind == "zero" else 0.05] * len(values)
    return b"null" if kind == "null_vector" else json.dumps(values).encode()


def openai_body(model: str, values: list[bytes], tokens: int, script: Script) -> bytes:
    """The answer of `/v1/embeddings`."""
    if script.indexes == "no_zero":
        items = [
            b'{"object":"embedding",%b"embedding":%b}'
            % (b'"index":%d,' % index if index else b"", value)
            for index, value in enumerate(values)
        ]
    elif script.indexes == "none":
        items = [b'{"object":"embedding","embedding":%b}' % value for value in values]
    else:
        items = [
            b'{"object":"embedding","index":%d,"embedding":%b}' % (index, value)
            for index, value in enumerate(values)
        ]
    if script.indexes == "same":
        items = [item.replace(b'"index":%d' % n, b'"index":0') for n, item in enumerate(items)]
    if script.indexes in ("null", "float"):
        items = [
            item.replace(
                b'"index":%d' % n,
                b'"index":null' if script.indexes == "null" else b'"index":%d.0' % n,
            )
            for n, item in enumerate(items)
        ]
    if script.shuffle:
        items = items[1::2][::-1] + items[0::2]
    usage = b'"usage":{"prompt_tokens":%d,"total_tokens":%d}}' % (tokens, tokens)
    name = json.dumps(model).encode()
    return b'{"object":"list","data":[%b],"model":%b,%b' % (b",".join(items), name, usage)


def ollama_body(model: str, values: list[bytes], tokens: int) -> bytes:
    """The answer of `/api/embed`."""
    name = json.dumps(model).encode()
    return b'{"model":%b,"embeddings":[%b],"prompt_eval_count":%d}' % (
        name,
        b",".join(values),
        tokens,
    )


def cohere_body(values: list[bytes], tokens: int) -> bytes:
    """The answer of `/v2/embed`."""
    return b'{"embeddings":{"float":[%b]},"meta":{"billed_units":{"input_tokens":%d}}}' % (
        b",".join(values),
        tokens,
    )
