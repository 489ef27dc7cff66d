"""For scripts: what the commands do, as methods. `from embed_star import Client` is the way in."""

from embed_star.api.asynchronous import AsyncClient
from embed_star.api.client import Client, FilterOptions
from embed_star.api.results import Details, Enqueued, Result

__all__ = ["AsyncClient", "Client", "Details", "Enqueued", "FilterOptions", "Result"]
