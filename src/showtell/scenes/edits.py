"""Edits as data, and what each of them does to a scene."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from showtell.scenes.world import BIGGER, PLACES, RADIUS, SMALLER, Scene, Thing

ACTIONS = ("recolour", "replace", "remove", "add", "resize", "move", "background", "style")


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One edit. `kind` (and `kind_colour`, where several things are of that kind) says which thing is meant.

    colour: the new colour (recolour, add, and replace when it names one). to: the new kind (replace, add), background or
    style. place: where to (add, move). size: "bigger" or "smaller" (resize).
    """

    action: str
    kind: str | None = None
    kind_colour: str | None = None
    colour: str | None = None
    to: str | None = None
    place: str | None = None
    size: str | None = None

    def to_dict(self) -> dict[str, str]:
        return {k: v for k, v in asdict(self).items() if v is not None}


def find(scene: Scene, edit: Edit) -> Thing | None:
    """The one thing that the edit speaks of, or None when no thing or more than one fits."""
    fits = [t for t in scene.things if t.kind == edit.kind and edit.kind_colour in (None, t.colour)]
    return fits[0] if len(fits) == 1 else None


def fits(scene: Scene, edit: Edit) -> bool:
    """Whether the edit makes sense in the scene and would change it."""
    if edit.action == "background":
        return scene.backdrop != edit.to
    if edit.action == "style":
        return scene.style is None
    if edit.action == "add":
        return edit.place in scene.free_places() and all(t.kind != edit.to for t in scene.things)
    thing = find(scene, edit)
    if thing is None:
        return False
    if edit.action == "recolour":
        return thing.colour != edit.colour
    if edit.action == "replace":
        return all(t.kind != edit.to for t in scene.things)
    if edit.action == "move":
        return edit.place in scene.free_places()
    return True


def apply_edit(scene: Scene, edit: Edit) -> Scene:
    """The scene after the edit: new things, colours and backgrounds are the canonical ones, the rest stays as it was."""
    if edit.action == "background":
        assert edit.to is not None
        return replace(scene, backdrop=edit.to, tint=(0.0, 0.0, 0.0), shift=0.0)
    if edit.action == "style":
        return replace(scene, style=edit.to)
    if edit.action == "add":
        return replace(scene, things=(*scene.things, _new_thing(edit)))
    thing = find(scene, edit)
    assert thing is not None, f"{edit} does not fit {scene}"
    if edit.action == "remove":
        return replace(scene, things=tuple(t for t in scene.things if t.key != thing.key))
    if edit.action == "recolour":
        assert edit.colour is not None
        return scene.with_thing(replace(thing, colour=edit.colour, shade=(0.0, 0.0, 0.0)))
    if edit.action == "replace":
        assert edit.to is not None
        if edit.colour is None:
            return scene.with_thing(replace(thing, kind=edit.to))
        return scene.with_thing(replace(thing, kind=edit.to, colour=edit.colour, shade=(0.0, 0.0, 0.0)))
    if edit.action == "resize":
        factor = BIGGER if edit.size == "bigger" else SMALLER
        return scene.with_thing(replace(thing, radius=thing.radius * factor))
    assert edit.action == "move" and edit.place is not None
    x, y = PLACES[edit.place]
    return scene.with_thing(replace(thing, place=edit.place, x=x, y=y))


def _new_thing(edit: Edit) -> Thing:
    assert edit.to is not None and edit.colour is not None and edit.place is not None
    x, y = PLACES[edit.place]
    key = 10 + list(PLACES).index(edit.place)  # never a key that a removed thing had
    return Thing(key=key, kind=edit.to, colour=edit.colour, place=edit.place, x=x, y=y, radius=RADIUS)
