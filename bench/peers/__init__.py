"""The same rows through embed_star and through its peers."""
