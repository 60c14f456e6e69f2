"""The policy witness: an MCP proxy and a bridge that are shipped into images, and the policy check.

SHIPPED_FILES is all that an image needs of it: container path -> file on the host. Below
/opt/assay the package folders carry no __init__.py: namespace packages load nothing else.
"""

from pathlib import Path
from typing import Final

_HERE = Path(__file__).parent
_MODULES = (
    "decisions", "judge", "lines", "paths", "refusals", "relay", "rules", "server", "session", "wire",
)  # fmt: skip

SHIPPED_FILES: Final[dict[str, Path]] = {
    "/opt/assay/bridge.py": _HERE / "bridge.py",
    **{f"/opt/assay/harness/policy/{name}.py": _HERE / f"{name}.py" for name in _MODULES},
    "/opt/assay/proxy.py": _HERE / "proxy.py",
}
