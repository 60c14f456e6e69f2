"""A real MCP server (the official SDK's): one tool, read_file, that stays below /workspace."""

from pathlib import Path

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

ROOT = Path("/workspace")
server = MCPServer("files")


# The CLI runs only read-only tools in parallel, and shows its model structured content instead of the text.
@server.tool(annotations=ToolAnnotations(read_only_hint=True), structured_output=False)
def read_file(path: str) -> str:
    """Read a text file below /workspace."""
    place = (ROOT / path).resolve()  # links resolved
    if not place.is_relative_to(ROOT):
        raise ValueError("outside of /workspace")
    return place.read_text(encoding="utf-8")


server.run()
