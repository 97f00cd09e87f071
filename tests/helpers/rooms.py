"""The studio's rooms as a person uses them, through a browser's tab."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

ARTEFACTS = Path(os.environ.get("SHOWTELL_ARTEFACTS") or Path(__file__).parents[2] / "build" / "studio")
#: A lesson may take so long on a busy machine, in milliseconds.
PATIENCE = 40_000


class Rooms:
    """A tab that shows the studio."""

    def __init__(self, tab: Any) -> None:
        self.tab = tab
        tab.wait_for_selector("#tell-lines textarea")

    def go(self, name: str) -> None:
        """To another room."""
        self.tab.get_by_role("tab", name=name).click()

    def drop(self, where: str, file: Path) -> None:
        """Drop a picture (or choose it: the same to the page), and wait until the server has it."""
        self.tab.locator(f"#{where} input[type=file]").set_input_files(str(file))
        self.tab.locator(f"#{where} img").first.wait_for()

    def choose(self, where: str, file: Path) -> None:
        """Press a button that asks for a file, and choose one."""
        with self.tab.expect_file_chooser() as asked:
            self.press(where)
        asked.value.set_files(str(file))

    def write(self, where: str, text: str) -> None:
        """Write into a text box or a number."""
        box = self.tab.locator(f"#{where} textarea, #{where} input:not([type=range])").first
        box.fill(text)
        box.blur()

    def value(self, where: str) -> str:
        """What a text box or a number holds."""
        return self.tab.locator(f"#{where} textarea, #{where} input:not([type=range])").first.input_value()

    def press(self, where: str) -> None:
        """Click a button."""
        button = self.tab.locator(f"button#{where}, #{where} button").first
        button.click()

    def open(self, where: str) -> None:
        """Open an accordion."""
        self.tab.locator(f"#{where} > button").click()
        self.tab.wait_for_timeout(300)

    def line(self, where: str = "tell-line") -> str:
        """What the line says."""
        return self.tab.locator(f"#{where}").inner_text()

    def until(self, text: str, where: str = "tell-line", *, patience: int = PATIENCE) -> str:
        """Wait until the line says ``text``; what it says then."""
        from playwright.sync_api import TimeoutError as Late

        try:
            self.tab.locator(f"#{where}", has_text=text).wait_for(timeout=patience)
        except Late:
            kept = self.shot("late")
            raise AssertionError(f"the line says {self.line(where)!r}, and never {text!r}: see {kept}") from None
        return self.line(where)

    def pictures(self, where: str) -> int:
        """How many pictures a strip shows."""
        return self.tab.locator(f"#{where} button.thumbnail-item").count()

    def pick(self, where: str, number: int) -> None:
        """Click a picture of a strip."""
        self.tab.locator(f"#{where} button.thumbnail-item").nth(number).click()

    def download(self, where: str, to: Path) -> Path:
        """Press a download button; the file as it was kept."""
        with self.tab.expect_download() as got:
            self.tab.locator(f"#{where}").first.click()
        path = to / got.value.suggested_filename
        got.value.save_as(path)
        return path

    def shot(self, name: str) -> Path:
        """Keep a picture of the page, to be looked at."""
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        path = ARTEFACTS / f"{name}.png"
        self.tab.screenshot(path=str(path), full_page=True)
        return path
