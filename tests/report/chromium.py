"""A headless Chromium over its DevTools protocol, standard library only.

Messages are JSON, ended by a zero byte, over two pipes that Chromium knows as file descriptors 3 and 4.
https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-extensions", "--disable-background-networking", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 30.0  # seconds for any one answer


def find_chromium() -> str | None:
    """The program, or None."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Chromium:
    """One browser with one tab. `events` are all that it has told."""

    def __init__(self, program: str, profile: Path) -> None:
        told, ours = os.pipe()  # what we say
        theirs, answers = os.pipe()  # what it says
        shell = f'exec "$0" "$@" 3<&{told} 4>&{answers}'
        command = ["bash", "-c", shell, program, *FLAGS, f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(
            command, pass_fds=(told, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(told)
        os.close(answers)
        self.pipe, self.answers, self.rest, self.number = ours, theirs, b"", 0
        self.events: list[dict[str, Any]] = []
        self.session: str | None = None
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self.process.terminate()
        self.process.wait()
        os.close(self.pipe)
        os.close(self.answers)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """What a method of the protocol answers."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.pipe, json.dumps(message).encode() + b"\0")
        for answer in self._messages():
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)
        raise RuntimeError(f"Chromium did not answer {method}")

    def _messages(self) -> Iterator[dict[str, Any]]:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            while b"\0" in self.rest:
                message, _, self.rest = self.rest.partition(b"\0")
                yield json.loads(message)
            ready, _, _ = select.select([self.answers], [], [], 0.5)
            if ready:
                part = os.read(self.answers, 2**16)
                if not part:
                    return
                self.rest += part

    def open(self, page: Path, width: int, dark: bool = False) -> None:
        """Load a page in a window of so many CSS pixels."""
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1,
            mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=page.resolve().as_uri())
        end = time.monotonic() + PATIENCE
        while self.ask("document.readyState") != "complete":
            assert time.monotonic() < end, f"{page} does not load"

    def ask(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def complaints(self) -> list[str]:
        """Errors and warnings of the console since the page was opened."""
        self.ask("0")
        kinds = {"Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"}
        return [json.dumps(event["params"]) for event in self.events if event["method"] in kinds]

    def requests(self) -> list[str]:
        """Addresses asked for since the page was opened."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def photograph(self, path: Path, height: int | None = None) -> None:
        """Save the page as PNG, whole or its uppermost part."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"], "scale": 1}
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def chromium(profile: Path) -> Iterator[Chromium]:
    """A browser that is closed at the end."""
    program = find_chromium()
    assert program is not None
    with Chromium(program, profile) as browser:
        yield browser
