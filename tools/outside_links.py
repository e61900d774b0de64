"""Ask every other host that the built site links to whether the page is there. Needs a network, so CI leaves it out.

python tools/outside_links.py    # `make docs-links`, after `make docs`
"""

import re
import sys
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

SITE = Path(__file__).parents[1] / "site"
PATIENCE_S = 20
REFUSES = (401, 403, 405, 429)  # of hosts that are there, but not for programs


def problem(link: str) -> str:
    """Why a page cannot be had; empty where it can."""
    asked = Request(link, headers={"User-Agent": "Mozilla/5.0"})
    try:
        with urlopen(asked, timeout=PATIENCE_S):
            return ""
    except HTTPError as error:
        return "" if error.code in REFUSES else f"status {error.code}"
    except (URLError, TimeoutError) as error:
        return str(error)


def main() -> None:
    pages = [file.read_text(encoding="utf-8") for file in SITE.rglob("*.html")]
    links = sorted({link for page in pages for link in re.findall(r'<a [^>]*href="(https?://[^"]+)"', page)})
    found = {link: problem(link) for link in links}
    for link, why in found.items():
        print(f"{link}: {why or 'there'}")
    sys.exit(any(found.values()) or not links)


if __name__ == "__main__":
    main()
