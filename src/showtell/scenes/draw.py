"""Drawing scenes and edits by seed. Pure data: nothing here makes a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from showtell.errors import UsageError
from showtell.scenes.edits import ACTIONS, Edit, apply_edit, find, fits
from showtell.scenes.language import Phrase, caption, instruct
from showtell.scenes.world import BACKDROPS, COLOURS, KINDS, PLACES, RADII, STYLES, Scene, Thing

SHARES = {
    "recolour": 0.2,
    "replace": 0.15,
    "remove": 0.12,
    "add": 0.15,
    "resize": 0.1,
    "move": 0.08,
    "background": 0.1,
    "style": 0.1,
}
"""How often each action is drawn for a single edit."""
MOST_EDITS = 4
SPLITS = ("heldout", "train")
_TRIES = 2000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A case before it has pixels: both scenes, the edits between them, and their words."""

    before: Scene
    after: Scene
    edits: tuple[Edit, ...]
    phrases: tuple[Phrase, ...]
    captions: tuple[Phrase, Phrase]


def rng_for(seed: int, split: str = "heldout") -> Random:
    """The stream of a seed. Training draws from the split "train"; everything measured draws from "heldout"."""
    if split not in SPLITS:
        raise UsageError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    return Random(f"showtell-scenes-1:{split}:{seed}")


def draw_scene(rng: Random, *, things: int | None = None) -> Scene:
    """A scene of 1 to 3 things, each in a place of its own, at times two of a kind in different colours."""
    count = things if things is not None else rng.choice((1, 2, 2, 3, 3))
    kinds = rng.sample(KINDS, count)
    colours = [rng.choice(list(COLOURS)) for _ in range(count)]
    if count > 1 and rng.random() < 0.15:
        kinds[1] = kinds[0]
        colours[0], colours[1] = rng.sample(list(COLOURS), 2)
    places = rng.sample(list(PLACES), count)
    drawn = tuple(_draw_thing(rng, i, *what) for i, what in enumerate(zip(kinds, colours, places, strict=True)))
    tint = (rng.uniform(-0.05, 0.05), rng.uniform(-0.05, 0.05), rng.uniform(-0.05, 0.05))
    return Scene(backdrop=rng.choice(list(BACKDROPS)), things=drawn, tint=tint, shift=rng.uniform(-0.03, 0.03))


def _draw_thing(rng: Random, key: int, kind: str, colour: str, place: str) -> Thing:
    x, y = PLACES[place]
    shade = (rng.uniform(-0.04, 0.04), rng.uniform(-0.04, 0.04), rng.uniform(-0.04, 0.04))
    return Thing(
        key=key,
        kind=kind,
        colour=colour,
        place=place,
        x=x + rng.uniform(-0.03, 0.03),
        y=y + rng.uniform(-0.03, 0.03),
        radius=rng.uniform(*RADII),
        shade=shade,
    )


def draw_edit(rng: Random, scene: Scene, action: str) -> Edit | None:
    """An edit of that kind for the scene, or None when none fits."""
    if action == "background":
        return Edit(action=action, to=rng.choice([b for b in BACKDROPS if b != scene.backdrop]))
    if action == "style":
        return Edit(action=action, to=rng.choice(list(STYLES)))
    absent = [k for k in KINDS if all(t.kind != k for t in scene.things)]
    free = scene.free_places()
    if action == "add":
        if not free:
            return None
        return Edit(action=action, to=rng.choice(absent), colour=rng.choice(list(COLOURS)), place=rng.choice(free))
    if not scene.things:
        return None
    thing = rng.choice(scene.things)
    twin = any(t.kind == thing.kind and t.key != thing.key for t in scene.things)
    named = {"kind": thing.kind, "kind_colour": thing.colour if twin or rng.random() < 0.15 else None}
    if action == "recolour":
        return Edit(action=action, colour=rng.choice([c for c in COLOURS if c != thing.colour]), **named)
    if action == "replace":
        colour = rng.choice([c for c in COLOURS if c != thing.colour]) if rng.random() < 0.5 else None
        return Edit(action=action, to=rng.choice(absent), colour=colour, **named)
    if action == "resize":
        return Edit(action=action, size=rng.choice(("bigger", "smaller")), **named)
    if action == "move":
        return Edit(action=action, place=rng.choice(free), **named) if free else None
    return Edit(action=action, **named)


def _draw_edits(rng: Random, scene: Scene, actions: Sequence[str]) -> tuple[Edit, ...] | None:
    """One edit for each action, no two of them on the same thing or place, each true to the scene that the user sees."""
    edits: list[Edit] = []
    used: set[object] = set()
    for action in actions:
        edit = draw_edit(rng, scene, action)
        if edit is None:
            return None
        thing = find(scene, edit)
        claims = {action} if action in ("background", "style") else set()
        claims |= {thing.key, thing.place} if thing else set()
        claims |= {edit.place} if edit.place else set()
        claims |= {edit.to} if action in ("add", "replace") else set()
        if claims & used:
            return None
        used |= claims
        edits.append(edit)
    return tuple(edits)


def apply_all(scene: Scene, edits: Sequence[Edit]) -> Scene:
    for edit in edits:
        scene = apply_edit(scene, edit)
    return scene


def plan(before: Scene, edits: Sequence[Edit], phrases: Sequence[Phrase]) -> Plan:
    """Fill in what follows from a scene, its edits and their words."""
    after = apply_all(before, edits)
    places = any(e.action == "move" for e in edits)
    captions = (caption(before, places=places), caption(after, places=places))
    return Plan(before=before, after=after, edits=tuple(edits), phrases=tuple(phrases), captions=captions)


def _draw_actions(rng: Random, count: int, allowed: Sequence[str]) -> list[str]:
    if count == 1:
        return rng.choices(list(allowed), [SHARES[a] for a in allowed])
    local = [a for a in allowed if a not in ("style", "background")]
    actions = rng.choices(local, [SHARES[a] for a in local], k=count)
    if "background" in allowed and rng.random() < 0.25:
        actions[rng.randrange(count)] = "background"
    return actions


def draw_plan(rng: Random, *, edits: int = 1, actions: Sequence[str] | None = None) -> Plan:
    """A case with `edits` edits (1 to 4) of the given actions (all, unless named; a style only stands alone)."""
    if not 1 <= edits <= MOST_EDITS:
        raise UsageError(f"edits={edits}: a case has 1 to {MOST_EDITS} edits")
    allowed = tuple(actions or ACTIONS)
    if unknown := [a for a in allowed if a not in ACTIONS]:
        raise UsageError(f"unknown action {unknown[0]!r}: choose from {', '.join(ACTIONS)}")
    if edits > 1 and not [a for a in allowed if a not in ("style", "background")]:
        raise UsageError("several edits at once need an action other than style and background")
    for _ in range(_TRIES):
        chosen = _draw_actions(rng, edits, allowed)
        on_things = sum(a not in ("add", "background", "style") for a in chosen)
        scene = draw_scene(rng, things=rng.randint(max(on_things, 1), 3) if edits > 1 and on_things <= 3 else None)
        drawn = _draw_edits(rng, scene, chosen)
        if drawn and _apply_in_turn(scene, drawn):
            return plan(scene, drawn, [instruct(e, rng) for e in drawn])
    raise UsageError(f"found no scene for {edits} edits of {', '.join(allowed)}")


def draw_plan_like(rng: Random, edits: Sequence[Edit]) -> Plan:
    """A case that repeats `edits` on another scene, drawn so that each of them makes sense in it."""
    for _ in range(_TRIES):
        scene = _scene_for(rng, edits)
        if scene is not None and _apply_in_turn(scene, edits):
            return plan(scene, edits, [instruct(e, rng) for e in edits])
    raise UsageError(f"found no scene that these edits fit: {'; '.join(str(e.to_dict()) for e in edits)}")


def _apply_in_turn(scene: Scene, edits: Sequence[Edit]) -> bool:
    """Whether every edit fits the scene that the user sees and the one its forerunners leave."""
    now = scene
    for edit in edits:
        if not (fits(scene, edit) and fits(now, edit)):
            return False
        now = apply_edit(now, edit)
    return True


def _scene_for(rng: Random, edits: Sequence[Edit]) -> Scene | None:
    """A random scene in which the things that the edits name are planted."""
    named = [e for e in edits if e.kind]
    if len(named) > 3:
        return None
    scene = draw_scene(rng, things=rng.randint(max(1, len(named)), 3))
    things = list(scene.things)
    for slot, edit in zip(rng.sample(range(len(things)), len(named)), named, strict=True):
        old = things[slot]
        assert edit.kind is not None
        things[slot] = Thing(
            key=old.key,
            kind=edit.kind,
            colour=edit.kind_colour or old.colour,
            place=old.place,
            x=old.x,
            y=old.y,
            radius=old.radius,
            shade=old.shade,
        )
    return Scene(backdrop=scene.backdrop, things=tuple(things), tint=scene.tint, shift=scene.shift)
