"""The Celery side of embed_star: an app factory and thin tasks. Importing registers nothing."""
