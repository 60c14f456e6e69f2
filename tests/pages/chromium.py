"""A headless Chromium, driven through a pipe by the DevTools protocol: no port, no profile, no network."""

import base64
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# The browser reads commands from descriptor 3 and answers on 4, as its --remote-debugging-pipe says.
_START = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>"$LOG"'
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """`network` holds every request that a page made, `console` all that it said or that was logged."""

    def __init__(self) -> None:
        program = shutil.which("chromium")
        assert program, "no chromium on PATH: on Debian, apt-get install chromium"
        self._folder = tempfile.TemporaryDirectory(prefix="assay-pages-")
        flags = (*_FLAGS, f"--user-data-dir={self._folder.name}/profile")
        self._process = subprocess.Popen(
            ["sh", "-c", _START, "sh", program, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": self._folder.name,
                "LOG": f"{self._folder.name}/log",
                "TZ": "UTC",
            },
        )
        self._last = 0
        self._session: str | None = None
        self.network: list[str] = []
        self.console: list[str] = []

    def __enter__(self) -> Self:
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log", "Audits"):
            self.ask(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None
        self.ask("Browser.close")
        self._process.wait(timeout=20)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._folder.cleanup()

    def show(self, path: Path, width: int, *, dark: bool = False) -> None:
        """Load the page afresh at that width; returns when it stands and nothing more is asked for."""
        self.network.clear()
        self.console.clear()
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Page.navigate", url=path.as_uri())
        while self.evaluate("document.readyState + location.protocol") != "completefile:":
            pass
        self.evaluate("new Promise(done => setTimeout(done, 200))")

    def evaluate(self, expression: str) -> Any:
        told = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page, not only what the window shows."""
        taken = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer's result; what is told in between is kept."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()
        while True:
            told = self._read()
            if told.get("id") == self._last:
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result
            self._note(told.get("method", ""), told.get("params", {}))

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        data = bytearray()
        while (byte := self._process.stdout.read(1)) != b"\0":
            assert byte, (
                f"chromium ended: {Path(self._folder.name, 'log').read_text(errors='replace')[-2000:]}"
            )
            data += byte
        told: dict[str, Any] = json.loads(data)
        return told

    def _note(self, method: str, told: dict[str, Any]) -> None:
        match method:
            case "Network.requestWillBeSent":
                self.network.append(told["request"]["url"])
            case "Network.webSocketCreated":
                self.network.append(told["url"])
            case "Runtime.consoleAPICalled":
                self.console.append(json.dumps(told["args"]))
            case "Runtime.exceptionThrown":
                self.console.append(json.dumps(told["exceptionDetails"]))
            case "Log.entryAdded":
                self.console.append(told["entry"]["text"])
            case "Audits.issueAdded":
                self.console.append(json.dumps(told["issue"]))
            case _:
                pass
