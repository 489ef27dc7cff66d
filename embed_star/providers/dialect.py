"""The options that a server of OpenAI's API understands, learned from its answers.

Servers refuse `encoding_format` in many different ways, and only some models take
`dimensions`. When a call fails in a way that an option may have caused, other options are
tried within the same call. Options that work are kept for the life of the process.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
import structlog

from embed_star.errors import ConfigError, EmbedStarError, ProviderError
from embed_star.providers.base import Embeddings
from embed_star.providers.catalogue import shortened_from

log = structlog.get_logger(__name__)

Options = dict[str, Any]


class Sign(Enum):
    """Why a call may have been useless."""

    REFUSED = "the request was refused as such"
    BROKEN = "an error of the server, or an answer without vectors"
    LENGTH = "vectors of another length"


class Unusable(Exception):
    """A call failed, perhaps because of its options."""

    def __init__(self, error: EmbedStarError, sign: Sign) -> None:
        super().__init__(str(error))
        self.error = error
        self.sign = sign


class Dialect:
    """The options that this server is known to take. Thread-safe."""

    def __init__(self, model: str, dimensions: int, encoding: str) -> None:
        """`encoding` is `auto`, `base64` or `float`. Raises ConfigError for vectors longer
        than the model has."""
        native = shortened_from(model)  # of others, it is found out
        if native is not None and dimensions > native:
            raise ConfigError(f"EMBEDDING_DIMENSIONS must be at most {native} with {model}")
        self._dimensions = dimensions
        self._asks_dimensions = native is not None and native != dimensions
        self._dimensions_open = native is None
        self._base64 = encoding != "float"
        self._base64_open = encoding == "auto"
        self._breakage_open = True

    def begin(self) -> Dialogue:
        """One call, which may have to be asked in several ways."""
        return Dialogue(self)

    def options(self) -> Options:
        """The options known so far."""
        return self._with(base64=self._base64, dimensions=self._asks_dimensions)

    def instead(self, asked: Options, sign: Sign) -> Options | None:
        """The options to try after `asked` led to `sign`; None if none are left.

        A refusal costs nothing. But vectors of another length are paid for, and in an outage
        calls must not be sent twice: such a call is tried again only until that did not help.
        """
        base64, dimensions = "encoding_format" in asked, "dimensions" in asked
        if sign is Sign.LENGTH:
            if not dimensions and (self._dimensions_open or self._asks_dimensions):
                return self._with(base64=base64, dimensions=True)
            self._dimensions_open = False
            return None
        if base64 and not self._base64:  # another thread has found out meanwhile
            return self._with(base64=False, dimensions=dimensions)
        if base64 and self._base64_open and (sign is Sign.REFUSED or self._breakage_open):
            return self._with(base64=False, dimensions=dimensions)
        if not base64 and sign is Sign.BROKEN:
            self._breakage_open = False
        return None

    def keep(self, asked: Options) -> None:
        """Keep these options: the server answered them with vectors."""
        before = self.options()
        self._base64, self._base64_open = "encoding_format" in asked, False
        # Not later: vectors of another length are those of another model then.
        self._asks_dimensions, self._dimensions_open = "dimensions" in asked, False
        if asked != before:
            log.info("provider_dialect", asked_with=asked, instead_of=before)

    def dimensions_are_refused(self) -> None:
        """Stop asking for `dimensions`, unless that is known to work."""
        self._dimensions_open = False

    def _with(self, *, base64: bool, dimensions: bool) -> Options:
        options: Options = {}
        if dimensions:
            options["dimensions"] = self._dimensions
        if base64:
            options["encoding_format"] = "base64"
        return options


class Dialogue:
    """The ways in which one call is asked, one after the other."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._length_error: EmbedStarError | None = None
        self.options = dialect.options()
        """The options to use now: the known ones, else the likeliest."""

    def failed(self, error: Unusable | ProviderError) -> None:
        """Go on to the next options. When none are left, raises an error of the call.

        That is the last error, or the one that vectors have another length.
        """
        if isinstance(error, Unusable):
            if error.sign is Sign.LENGTH:
                self._length_error = self._length_error or error.error
            after = self._dialect.instead(self.options, error.sign)
            if after is None:
                raise self._length_error or error.error from None
            self.options = after
        elif self._length_error is not None:  # `dimensions` was refused: that is no news
            self._dialect.dimensions_are_refused()
            raise self._length_error from None
        else:
            raise error

    def is_over(self, found: Embeddings) -> bool:
        """Whether `found` is the call's answer; else there is another way to ask."""
        if not np.isnan(found.vectors).all():
            self._dialect.keep(self.options)
            return True
        after = self._dialect.instead(self.options, Sign.BROKEN)
        if after is None:
            return True
        self.options = after
        return False
