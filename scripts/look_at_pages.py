"""Open pages in headless Chromium, at two widths and in both colour schemes: pictures to look at, and measurements.

    make docs
    certnet demo --out out
    python scripts/look_at_pages.py --out pages docs/_build out/report.html
    python scripts/look_at_pages.py --out pages docs/_build --only index certificates

Arguments are HTML files and folders of them (all pages of a built site but those of its sources). A page fails where it
is wider than the window, or where a formula is wider than its column. Search is tried too: WORDS must find something.
Exit code 0, or 1 with the list. It needs Chromium (Debian: `apt-get install chromium`), and nothing of Python beyond
the standard library: the browser is driven through a pipe.
"""

from __future__ import annotations

import argparse
import base64
import functools
import http.server
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WIDTHS = (1280, 400)
SCHEMES = ("light", "dark")
WORDS = ("monotone", "ONNX", "radius")
SKIPPED = {"_modules", "_static", "_sources", "_images"}
TALLEST = 16000  # pixels; what is below is not in the picture
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
MEASURE = """(() => {
  const wide = (node) => node.scrollWidth > node.clientWidth + 1;
  const formulas = [...document.querySelectorAll('div.math')].filter(wide);
  const column = document.querySelector('article')?.getBoundingClientRect().right ?? window.innerWidth;
  const inline = [...document.querySelectorAll('span.math math')]
    .filter((node) => !node.closest('.table-wrapper') && node.getBoundingClientRect().right > column + 1);
  return {
    width: document.documentElement.scrollWidth,
    height: document.documentElement.scrollHeight,
    formulas: [...formulas, ...inline].map((node) => node.textContent.trim().replace(/\\s+/g, ' ').slice(0, 60)),
  };
})()"""


class Browser:
    """Chromium at the other end of a pipe; messages of its DevTools protocol are JSON that ends with a zero byte."""

    def __init__(self, program: str, profile: str) -> None:
        theirs_in, self._write = os.pipe()
        self._read, theirs_out = os.pipe()
        # the protocol is spoken on the descriptors 3 and 4 of the browser
        shell = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = ["bash", "-c", shell, program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            command, pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest = b""
        self._numbers = itertools.count(1)
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        self.call("Page.enable")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """The result of a method of the protocol."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters} | self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        for answer in self._messages():
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])
        raise RuntimeError("the browser has ended")

    def open(self, address: str, *, width: int, scheme: str) -> dict[str, Any]:
        """Load a page, and measure it."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._resize(width, 900)
        self.call("Page.navigate", url=address)
        for answer in self._messages():
            if answer.get("method") == "Page.loadEventFired":
                break
        self.evaluate("document.fonts.ready.then(() => 1)")
        return dict(self.evaluate(MEASURE))

    def picture(self, width: int, height: int) -> bytes:
        """The whole page as PNG."""
        self._resize(width, min(height, TALLEST))
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")

    def close(self) -> None:
        self.call("Browser.close")
        self._process.wait(timeout=20)

    def _resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def _messages(self) -> Iterator[dict[str, Any]]:
        while True:
            while b"\0" not in self._rest:
                more = os.read(self._read, 1 << 20)
                if not more:
                    return
                self._rest += more
            first, self._rest = self._rest.split(b"\0", 1)
            yield json.loads(first)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder under an address of this machine: a search page reads its index from there."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


def pages(root: Path, only: list[str]) -> list[Path]:
    """The pages of a folder, or the file itself."""
    if root.is_file():
        return [root]
    found = [path for path in sorted(root.rglob("*.html")) if path.relative_to(root).parts[0] not in SKIPPED]
    return [path for path in found if not only or path.relative_to(root).with_suffix("").as_posix() in only]


def look(browser: Browser, root: Path, folder: Path, only: list[str]) -> list[str]:
    """Pictures of all pages of ``root`` in ``folder``; what is wrong with them, in lines."""
    base = root if root.is_dir() else root.parent
    wrong = []
    with served(base) as address:
        for page, width, scheme in itertools.product(pages(root, only), WIDTHS, SCHEMES):
            name = page.relative_to(base).with_suffix("").as_posix()
            seen = browser.open(f"{address}/{name}.html", width=width, scheme=scheme)
            png = browser.picture(width, seen["height"])
            (folder / f"{name.replace('/', '-')}-{width}-{scheme}.png").write_bytes(png)
            if seen["width"] > width:
                wrong.append(f"{name} is {seen['width']} pixels wide in a window of {width}")
            wrong += [f"{name} at {width}: a formula does not fit: {one}" for one in seen["formulas"]]
        if (base / "search.html").is_file() and not only:
            wrong += [f"search finds nothing for {word}" for word in WORDS if not hits(browser, address, word)]
    return list(dict.fromkeys(wrong))


def hits(browser: Browser, address: str, word: str) -> int:
    """How many pages the search of a site finds."""
    browser.open(f"{address}/search.html?q={word}", width=WIDTHS[0], scheme=SCHEMES[0])
    number = 0
    for _ in range(50):  # results come one by one
        time.sleep(0.1)
        before, number = number, int(browser.evaluate("document.querySelectorAll('#search-results li').length") or 0)
        if number and number == before:
            break
    sys.stdout.write(f"search for {word}: {number} results\n")
    return number


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("roots", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--only", nargs="+", default=[], help="pages by name, as api/certify")
    parser.add_argument("--browser", default=shutil.which("chromium") or shutil.which("google-chrome") or "chromium")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(options.browser, profile)
        wrong = [line for root in options.roots for line in look(browser, root, options.out, options.only)]
        browser.close()
    sys.stdout.write("\n".join(wrong or ["every page and every formula fits"]) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
