"""embed_star: keeps a current embedding beside every GitHub repository in SurrealDB."""

__version__ = "0.1.0"
