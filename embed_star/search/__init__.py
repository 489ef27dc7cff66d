"""A question becomes rows: search by meaning and name, and what is known of one repository."""

from embed_star.search.duplicates import Duplicate, Duplicates
from embed_star.search.finding import Mode, Search
from embed_star.search.lookup import Lookup, Repository
from embed_star.search.names import NameMatch
from embed_star.search.results import Hit
from embed_star.search.similar import Similar
from embed_star.store.tables.filters import NO_FILTERS, Filters

__all__ = [
    "NO_FILTERS",
    "Duplicate",
    "Duplicates",
    "Filters",
    "Hit",
    "Lookup",
    "Mode",
    "NameMatch",
    "Repository",
    "Search",
    "Similar",
]
