"""Every error that embed_star raises on purpose.

::

    EmbedStarError
    ├── ConfigError              a setting or an argument: the operator changes it
    ├── UnknownRepo              no repo has that name; carries names that are near
    ├── NotEmbedded              the repo has no vector
    ├── InputFileError           a file to import that cannot be read at all
    ├── BackupError              a backup that cannot be written, read or trusted
    ├── SchemaError              the database's schema and this code do not fit
    ├── TransientError           worth trying again, unchanged, a little later
    │   ├── StoreUnavailable     SurrealDB: no connection, or no answer in time
    │   │   └── PoolTimeout      every pooled connection stayed busy
    │   ├── WriteConflict        SurrealDB: conflicts outlasted the retries
    │   ├── RedisUnavailable     Redis: no connection, or no answer in time
    │   ├── ProviderUnavailable  no connection, a time-out, a 5xx, a torn answer
    │   │   └── ProviderThrottled    a 429; carries `retry_after_s`
    │   ├── ProviderPaused       its circuit breaker is open; carries `retry_in_s`
    │   └── ShuttingDown         this process ends; another one does it
    ├── StoreError               SurrealDB answered, and the answer is an error
    │   ├── StoreAuthError       wrong user, password or rights
    │   ├── AlreadyExists        a record with that id is there
    │   ├── FenceLost            a lock of this run is no longer this run's
    │   └── SpaceRetired         another space is the active one
    ├── AnotherSpace             a message for workers with other settings
    ├── TakenOver                another worker has this one's message
    └── ProviderError            the provider answered, and trying again is no help
        ├── ProviderAuthError    401, 403: the key
        ├── ProviderConfigError  404, another model, other dimensions, every text refused
        ├── ProviderProtocolError  an answer that is no embeddings answer
        ├── TooManyTexts         it takes fewer texts a call
        ├── InputRejected        400, 413, 422: something in these texts
        │   └── InputTooLong         it says that one has too many tokens
        └── InputSuspected       it fails at these texts and answers others

Foreign errors (websockets, redis, requests) are mapped once, where they enter.
A message is one sentence that says what to change; it holds no secret and no text
of a row.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path


class EmbedStarError(Exception):
    """Base of the tree. `str()` is a sentence for people."""


class ConfigError(EmbedStarError):
    """A setting or an argument is missing or wrong."""


class UnknownRepo(EmbedStarError):
    """No repo has the name that was asked for. `near` has full names that are like it."""

    def __init__(self, message: str, near: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.near = tuple(near)


class NotEmbedded(EmbedStarError):
    """The repo is there and has no vector, so nothing can be compared with it."""


class InputFileError(EmbedStarError):
    """A file to import cannot be read at all (a bad line in it is not this)."""


class BackupError(EmbedStarError):
    """A backup cannot be written, or what is there cannot be read or trusted."""


class SchemaError(EmbedStarError):
    """The database's schema and this code do not fit; the message says what to run."""


class TransientError(EmbedStarError):
    """Worth trying again, unchanged, a little later."""


class StoreUnavailable(TransientError):
    """SurrealDB could not be reached, or did not answer within the deadline."""


class PoolTimeout(StoreUnavailable):
    """Every pooled connection stayed busy for the whole waiting time."""


class WriteConflict(TransientError):
    """SurrealDB kept reporting a write conflict through all bounded retries."""


class RedisUnavailable(TransientError):
    """Redis could not be reached, or did not answer within the deadline."""


class ProviderUnavailable(TransientError):
    """The provider could not be reached, timed out, answered 5xx or broke off."""


class ProviderThrottled(ProviderUnavailable):
    """The provider answered 429, or that it is busy and when to come back.

    `retry_after_s` is the wait that the provider asks for, in seconds, or None. `answered` is
    true when these texts were sent and got the 429, false when no call was made for them.
    """

    def __init__(
        self, message: str, retry_after_s: float | None = None, *, answered: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.answered = answered


class ProviderPaused(TransientError):
    """The circuit breaker is open: the next probe is due in `retry_in_s` seconds."""

    def __init__(self, message: str, retry_in_s: float) -> None:
        super().__init__(message)
        self.retry_in_s = retry_in_s


class ShuttingDown(TransientError):
    """This process is stopping: another one does the work."""


class StoreError(EmbedStarError):
    """SurrealDB answered a statement with an error."""


class StoreAuthError(StoreError):
    """SurrealDB refused the user, the password or the right to do this."""


class AlreadyExists(StoreError):
    """A record with that id already exists."""


class FenceLost(StoreError):
    """At least one lock that this run relied on no longer carries its token."""


class SpaceRetired(StoreError):
    """A write into a space that is no longer the active one."""


class TakenOver(EmbedStarError):
    """This worker seemed dead, or Redis lost its data: the message is no longer this worker's."""


class AnotherSpace(EmbedStarError):
    """The message belongs to another space, the active one: a worker of that space takes it."""


class ProviderError(EmbedStarError):
    """The provider answered, and asking the same again would not help."""


class ProviderAuthError(ProviderError):
    """401, 403 or 402: the key is missing, wrong, revoked or out of credit."""


class ProviderConfigError(ProviderError):
    """The URL, the model or the dimensions in the settings do not fit the provider, or the
    provider refuses every text."""


class ProviderProtocolError(ProviderError):
    """The answer is no embeddings answer: HTML, a wrong count, a wrong index, too big.

    `vectors` is the number of vectors in the answer when that number is wrong, else None.
    """

    def __init__(self, message: str, vectors: int | None = None) -> None:
        super().__init__(message)
        self.vectors = vectors


class TooManyTexts(ProviderError):
    """The provider takes fewer texts a call, or answers with one vector: send it fewer."""


class InputRejected(ProviderError):
    """The provider refused these texts (400, 413, 422); some of them may be fine.

    `said` quotes the refusal for people: the status, and the error code if it is a plain word.
    `too_many` is true when the refusal is about the number of texts.
    """

    said = ""
    too_many = False


class InputTooLong(InputRejected):
    """The provider refused these texts because one of them is too long for the model."""


class InputSuspected(ProviderError):
    """The provider failed at these texts and answered another one right after.

    `reason` says how it failed, as in a row's record: `crashes_provider` (no answer),
    `garbles_answer` (one that cannot be used), `rejected` (as if it served nobody: a 403).
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def place_of(error: BaseException) -> str:
    """Where an unexpected error was raised, for instance `codec.py:132 in decode`.

    Logs show this place instead of the message, which may quote a row.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "unknown"
    last = frames[-1]
    return f"{Path(last.filename).name}:{last.lineno} in {last.name}"
