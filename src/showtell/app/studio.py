"""What the rooms of the studio share: the models, the limits, the visitors, and each account's library."""

from __future__ import annotations

import functools
import hashlib
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ImageError
from .library import Library
from .sessions import Sessions
from .tidying import trim
from .unfinished import Unfinished

if TYPE_CHECKING:
    from ..images import Picture
    from .limits import Limits
    from .sessions import Session
    from .workshop import Workshop

#: Seeds that a person can type again.
_SEEDS = 2**31
#: Seconds between two looks at how much there is.
_TIDY_EVERY = 10.0


class Studio:
    """``home`` is where learned edits stay, one folder an account; ``scratch`` has everything else, while the server runs."""

    def __init__(self, workshop: Workshop, *, limits: Limits, home: Path, scratch: Path) -> None:
        self.workshop, self.limits, self.home, self.scratch = workshop, limits, home, scratch
        self.sessions = Sessions(scratch, limits)
        self._tidied = time.monotonic()
        self.library = functools.cache(self._library)
        self.unfinished = functools.cache(self._unfinished)

    def session(self, tab: str | None, user: str | None) -> Session:
        """The visitor's session."""
        self._tidy()
        return self.sessions.of(tab, user)

    def _tidy(self) -> None:
        """Now and then, remove the oldest of what was uploaded where it is too much."""
        if time.monotonic() - self._tidied > _TIDY_EVERY:
            self._tidied = time.monotonic()
            trim(self.scratch, self.limits.scratch_bytes, skip=self.sessions.folders())

    def picture(self, session: Session, given: tuple[str, str] | None, name: str = "the picture") -> Picture:
        """A picture that was dropped, opened within the limits, and remembered. Raises ``ImageError``."""
        if given is None:
            raise ImageError(f"{name} is missing: drop one, or click an example")
        place, _ = given
        picture = self.limits.picture(place, name)
        session.remember(picture, Path(place))
        return picture

    def _library(self, user: str) -> Library:
        return Library(self._folder(user) / "library")

    def _unfinished(self, user: str) -> Unfinished:
        return Unfinished(self._folder(user) / "unfinished")

    def _folder(self, user: str) -> Path:
        """An account's folder; its name says whose it is, and the hash that no two accounts share one on any file system."""
        if not user:
            return self.home
        return self.home / "accounts" / f"{user.strip('.')}-{hashlib.sha256(user.encode()).hexdigest()[:12]}"


def draw_seed() -> int:
    """A new seed that is short enough to be typed again."""
    return secrets.randbelow(_SEEDS)
