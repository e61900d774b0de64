"""Open the built site in Chromium, at the widths of a phone and of a desk, light and dark, and say what is wrong.

python tools/look_at_site.py                 # the pages below
python tools/look_at_site.py --all           # every page, at the width of a phone
python tools/look_at_site.py --out pictures  # keeps what was seen

Wrong is: a script that fails, a request to another host, a file that is missing, a page wider than its window. Chromium
is taken from the system; where there is none, nothing is checked and one line says so.
"""

import argparse
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

SITE = Path(__file__).parents[1] / "site"
PAGES = (
    "index",
    "tutorials/first-chip",
    "tutorials/results-as-data",
    "tutorials/reading-a-report",
    "rules",
    "profiles",
    "results",
    "results/anp",
    "results/gallery",
    "gallery",
    "conformance",
    "reference/rules",
    "reference/effects",
    "reference/cli",
    "reference/profile-keys",
    "benchmarks",
)
PHONE, DESK = 375, 1280
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
TOO_WIDE = "document.documentElement.scrollWidth - window.innerWidth"


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and reports nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    """A page may be closed before all of it is sent."""

    def handle_error(self, request: object, client_address: object) -> None:
        """What is missing the browser reports."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which a folder is served on this machine."""
    server = Server(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


def faults_of(browser: Browser, address: str, page: str, width: int, scheme: str, out: Path | None) -> list[str]:
    """What is wrong with a page at one width and in one colour scheme; a picture of it goes to `out`."""
    faults: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    tab = context.new_page()
    tab.on("pageerror", lambda error: faults.append(f"script: {error}"))
    own = (address, "data:")
    tab.on("request", lambda asked: None if asked.url.startswith(own) else faults.append(f"asks for {asked.url}"))
    tab.on("response", lambda got: faults.append(f"{got.status}: {got.url}") if got.status >= 400 else None)
    tab.goto(f"{address}{page}.html", wait_until="load")
    wider = tab.evaluate(TOO_WIDE)
    if wider > 0:
        faults.append(f"{wider} px wider than the window")
    if out is not None:
        tab.screenshot(path=out / f"{page.replace('/', '-')}-{width}-{scheme}.png")
    context.close()
    return [f"{page} ({width} px, {scheme}): {fault}" for fault in faults]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="every page of the site, at the width of a phone")
    parser.add_argument("--out", type=Path, help="folder for pictures")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("no Chromium on this machine: the site was not looked at")
        return
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    looks = [(page, width, scheme) for page in PAGES for width in (PHONE, DESK) for scheme in ("light", "dark")]
    if options.all:
        every = (file.relative_to(SITE).with_suffix("").as_posix() for file in sorted(SITE.rglob("*.html")))
        looks = [(page, PHONE, "light") for page in every if page != "404"]
    with served(SITE) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        faults = [fault for look in looks for fault in faults_of(browser, address, *look, options.out)]
        browser.close()
    print("\n".join(faults) or f"{len(looks)} looks: no failed script, no foreign request, nothing too wide")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
