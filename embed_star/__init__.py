"""embed_star: keeps a current embedding beside every GitHub repository in SurrealDB."""
