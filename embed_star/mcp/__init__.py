"""The MCP server: search and status as read-only tools for an assistant.

Needs the extra `mcp`. Nothing outside `embed_star/cli/mcp.py` imports this package.
"""
