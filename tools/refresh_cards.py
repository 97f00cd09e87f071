"""Write the shipped model cards again from their own figures and the settings in the code, without training or measuring.

python tools/refresh_cards.py
"""

from __future__ import annotations

import json
from pathlib import Path

from showtell.bench import cards

CARDS = Path(__file__).resolve().parent.parent / "src" / "showtell" / "starters" / "cards"


def main() -> None:
    made = {path.stem: json.loads(path.read_text()) for path in sorted(CARDS.glob("*.json"))}
    defaults = made["starter"]["defaults"]
    defaults["visii"] = dict(cards.LEARNING)
    defaults["foi"] = {**defaults["ip2p"], **cards.FOCUS}
    described = {name: dict(own) for name, own in cards.DESCRIBING.items()}
    made["starter-base"]["defaults"] = {**described, "pictures": dict(cards.IMAGINING)}
    made["starter-clip"]["defaults"] = {"filter": dict(cards.SIFTING)}
    cards.write(CARDS, made)


if __name__ == "__main__":
    main()
