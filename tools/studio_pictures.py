"""The pictures of docs/studio.md: starts a studio on the starters, clicks an example, and takes the page's picture.

python tools/studio_pictures.py          # needs chromium (SHOWTELL_CHROMIUM=PATH, by default the one on PATH)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main() -> int:
    from PIL import Image
    from tests.helpers import browser as browsers
    from tests.helpers.rooms import Rooms
    from tests.helpers.studio import running

    out = ROOT / "docs" / "images" / "studio-tell.png"
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder)) as studio,
        browsers.launch() as browser,
        browsers.page(browser, f"{studio.address}/", size={"width": 1180, "height": 900}) as tab,
    ):
        rooms = Rooms(tab)
        rooms.pick("tell-examples", 5)
        rooms.until("done in")
        tab.wait_for_timeout(800)
        tab.screenshot(path=str(out), full_page=True)
    with Image.open(out) as taken:
        taken.convert("RGB").quantize(256).save(out, optimize=True)
    print(f"wrote {out} ({out.stat().st_size / 1024:.0f} KiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
