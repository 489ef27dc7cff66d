"""The failure reasons: each code of `embedding_failure.reason`, with words for people."""

from __future__ import annotations

from typing import NamedTuple

from embed_star.calling.validation import MAGNITUDE_MAX, MAGNITUDE_MIN, ZERO_RATIO_MAX


class Reason(NamedTuple):
    """The explanation of one code; each field is half a sentence."""

    meaning: str
    remedy: str
    """What a person can do about it."""


_TEXT = "change the row's text"
_VECTOR = f"{_TEXT}, or try another EMBEDDING_MODEL"

REASONS = {
    "empty_text": Reason(
        "all of its text fields are empty",
        "fill one of the fields in TEXT_FIELDS, or name other fields there",
    ),
    "unreadable": Reason(
        "the database holds the row and cannot give it out",
        "write its text fields anew, without NUL characters",
    ),
    "key_type": Reason(
        "its key is of a kind that no message can carry",
        "give it a key of numbers, strings or UUIDs, or an array or object of those, "
        "without dates, durations, decimals or sets",
    ),
    "rejected": Reason(
        "the provider refused its text, and answered another one after it",
        f"{_TEXT}, or lower TEXT_MAX_TOKENS if it is too long for the model",
    ),
    "too_long": Reason(
        "the provider says that its text has too many tokens for the model, though it was cut at "
        "TEXT_MAX_TOKENS estimated ones, or answered 429 to it time after time and another text in "
        "between: it is beyond the provider's limit for one request",
        "lower TEXT_MAX_TOKENS, which embeds every row anew, or shorten the row's text",
    ),
    "crashes_provider": Reason(
        "asked for this text alone, the provider broke off or timed out, time after time, and "
        "answered another text in between",
        f"{_TEXT}; for a slow provider, raise PROVIDER_TOTAL_TIMEOUT_S or lower TEXT_MAX_TOKENS",
    ),
    "garbles_answer": Reason(
        "asked for this text alone, the provider gave no answer that can be used, time after "
        "time, and answered another text in between",
        _TEXT,
    ),
    "not_finite": Reason("its vector held NaN, infinity or nothing", _VECTOR),
    "magnitude": Reason(
        "its vector was too short or too long",
        f"{_VECTOR}; a length of {MAGNITUDE_MIN:g} to {MAGNITUDE_MAX:g} is accepted",
    ),
    "zeros": Reason(
        "too many values of its vector were zero",
        f"{_VECTOR}; up to {ZERO_RATIO_MAX:.0%} are accepted",
    ),
    "constant": Reason("all values of its vector were the same", _VECTOR),
}


def reason_of(code: str) -> Reason:
    """The words for `code`. A newer version may have recorded a code that is unknown here."""
    return REASONS.get(code) or Reason(f"the reason is `{code}`", _TEXT)
