"""Pictures of the live page, light and dark: the demonstration runs for real, and Chromium looks at it.

Usage: python docs/screenshot_page.py FOLDER
"""

# ruff: noqa: INP001  a script beside the documents, not a package

import re
import signal
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SCHEMES = ("light", "dark")
WAIT_MS = 240_000  # for the servers of the demonstration, and for its first advertisement
JOINED = 55  # devices told to sleep: both of its airings, and people between them
SETTLED_MS = 1500


def main(folder: Path) -> None:
    """Take them."""
    demo = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "demo"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert demo.stdout is not None
        found = re.search(r"http://\S+", demo.stdout.readline())
        assert found is not None, "the demonstration did not begin with its page's address"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            pages = {}
            for scheme in SCHEMES:
                context = browser.new_context(color_scheme=scheme, viewport={"width": 1240, "height": 800})
                pages[scheme] = context.new_page()
                pages[scheme].goto(found[0])
            for scheme, page in pages.items():
                _wait(page)
                page.screenshot(path=folder / f"monitor-{scheme}.png", full_page=True)
            browser.close()
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(60)


def _wait(page: Page) -> None:
    """Until an event has most of its homes, and its evidence is drawn."""
    joined = "n => Number(document.getElementById('count-quiet').textContent) >= n"
    page.wait_for_function(joined, arg=JOINED, timeout=WAIT_MS)
    page.wait_for_selector(".strips canvas", timeout=WAIT_MS)
    page.wait_for_timeout(SETTLED_MS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
