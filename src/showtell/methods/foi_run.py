"""One run of Focus on Your Instruction: finding the regions, and what each step does with them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import focus, instruction, keywords, layout, networks
from ..attention import BranchContext
from ..blending import Mask
from ..errors import MethodError
from ..focus import Columns, CrossCondition, Regional
from .base import Context, Region

if TYPE_CHECKING:
    import torch

    from ..conditioning import Conditioning
    from ..types import LatentMask


class FocusRun:
    """What a run knows: the regions, once they are found, and what each step does.

    ``method`` is a settled ``FocusOnInstruction``. :meth:`attend`, :meth:`text_mask` and :meth:`regions` are those of the
    plan; :attr:`control` is to be installed around the run. Raises ``MethodError`` for a ``mask_step`` that is not run.
    """

    def __init__(
        self,
        method: Any,
        context: Context,
        schedule: Sequence[tuple[Any, Any]],
        conditioning: Conditioning,
        *,
        latent_side: tuple[int, int],
    ) -> None:
        count = len(schedule)
        if method.mask_step >= count:
            raise MethodError(
                f"mask_step={method.mask_step} is out of range: this run has {count} steps, 0 to {count - 1}"
            )
        self.method, self.context, self.conditioning = method, context, conditioning
        self.latent_side = latent_side
        self.control = CrossCondition(context.pipe.unet, latent_side)
        self.modulate_until = round(method.modulation * count)
        self.disentangle_until = round(method.disentangle * count)
        self.train_steps = context.steps.scheduler.config.num_train_timesteps
        self._layouts = context.layouts
        self._alone = self._embeds() if "apart" in (method.maps, method.text) else None
        self._maps: list[torch.Tensor] = []
        self._found: list[list[Region]] = []
        self._base: Columns | Regional | None = None
        self._text: dict[bool, torch.Tensor | None] = {}

    def attend(self, branches: BranchContext) -> None:
        """Before each call of the network: find the masks at the mask step, modulate after it, and rest at the end."""
        step, at, control = branches.step, self.method.mask_step, self.control
        control.rule, control.watching = None, False
        if step == at and not self._known() and not self._maps:
            if self.method.maps == "joined":
                control.watching = True
            else:
                self._look(branches)
        # Masks that were looked for beside the mask step's own call serve it, too. The user's wait, since the picture beside
        # in the batch may have none, and a batch is to equal single edits.
        early = step == at and self.method.maps == "apart"
        if (step > at or early) and step < self.modulate_until:
            control.rule = self._rule(float(branches.timestep) / self.train_steps)
        control(branches)

    def text_mask(self, step: int) -> LatentMask | None:
        """What the text term of the guidance is multiplied by: the union of the masks, weighted; in the last steps 1."""
        if step < self.method.mask_step:
            return None
        confined = step < self.disentangle_until
        if confined not in self._text:
            self._text[confined] = self._text_mask(confined=confined)
        return self._text[confined]

    def regions(self) -> list[list[Region]]:
        """The regions of each picture's sub-instructions, found at the mask step and the same from then on.

        Raises ``MethodError`` if no attention map was captured.
        """
        if not self._found:
            if not self._known() and not self._maps:
                self._maps = [self.control.maps.mean()]
            for b, placed in enumerate(self._layouts):
                tau = _drawn(self.method.tau, self.context.generators[b])
                self._found.append([self._region(b, part, tau) for part in range(placed.parts)])
                if isinstance(self.method.tau, tuple) and not all(region.own for region in self._found[b]):
                    self.context.note(b, f"threshold drawn by the seed: {tau:.3f}")
        return self._found

    def _own(self, b: int, part: int) -> Any:
        return self.context.own_masks[b][part] if self.context.own_masks else None

    def _known(self) -> bool:
        """Whether every mask was given by the user, so that no map is needed."""
        return all(
            self._own(b, part) is not None for b, placed in enumerate(self._layouts) for part in range(placed.parts)
        )

    def _look(self, branches: BranchContext) -> None:
        """The map of each sub-instruction from a call of its own."""
        import torch

        assert self._alone is not None
        net, control = networks.network(self.context.pipe), self.control
        _, beside = self.conditioning.told("full", branches.step)
        for part in range(self._alone.shape[1]):
            control(
                BranchContext(step=branches.step, timestep=branches.timestep, branches=("full",), batch=branches.batch)
            )
            control.watching = True
            with torch.no_grad():
                net(branches.latents, branches.timestep, self._alone[:, part], [beside])
            control.watching = False
            self._maps.append(control.maps.mean())
            control.maps.layers.clear()

    def _region(self, b: int, part: int, tau: float) -> Region:
        own = self._own(b, part)
        if own is not None:
            mask = Mask.from_arrays([own]).resized(*self.control.maps.side).values[0, 0]
            if not mask.any():
                told = self.context.instructions[b][part].text
                self.context.note(
                    b, f"the mask of {told!r} lies where the model sees nothing (fit crop), so it is not followed"
                )
            return Region(part=part, mask=mask.to(self.context.prompt_embeds.device), own=True)
        apart = self.method.maps == "apart"
        placed, number = (self._placed_alone(b, part), 0) if apart else (self._layouts[b], part)
        maps = self._maps[part if apart else 0][b]
        keyword = keywords.known(placed, number) or keywords.chosen(placed, number, maps)
        mask = focus.focus_mask(maps[list(keyword.positions)].mean(0), gamma=self.method.gamma, tau=tau)
        mask = focus.grown(mask, self.method.grow).float()
        text = self.context.instructions[b][part].text
        if keyword.chosen:
            self.context.note(b, f"keyword of {text!r}: [{keyword.text}], chosen automatically")
        if not mask.any():
            self.context.note(b, f"the mask of {text!r} is empty, so this instruction may change the whole picture")
            mask = mask + 1
        return Region(part=part, mask=mask, keyword=keyword)

    def _placed_alone(self, b: int, part: int) -> layout.Layout:
        return layout.lay_out(self.context.pipe, [self.context.instructions[b][part]])

    def _embeds(self) -> torch.Tensor:
        """Each sub-instruction encoded by itself, (B, k, 77, d); pictures with fewer repeat their last."""
        import torch

        most = max(placed.parts for placed in self._layouts)
        rows = []
        for parts in self.context.instructions:
            own = [instruction.assemble(self.context.pipe, instruction.segments(part))[0] for part in parts]
            rows.append(torch.stack([*own, *own[-1:] * (most - len(own))]))
        return torch.stack(rows)

    def _rule(self, t: float) -> Columns | Regional:
        if self._base is None:
            self._base = self._regional_rule() if self.method.text == "apart" else self._column_rule()
        return self._base.boosted(focus.xi(t, self.method.xi))

    def _column_rule(self) -> Columns:
        """The mask and the weight of each token's column (section 4.2); start, end and padding have no weight."""
        import torch

        masks, alpha = [], []
        for b, placed in enumerate(self._layouts):
            rows, union, weights = self.regions()[b], self._union(b), self._weights(b, "attention")
            special = {"union": union, "text": torch.ones_like(union), "image": torch.zeros_like(union)}
            other, owners = special[self.method.columns], placed.owners()
            masks.append(torch.stack([other if part is None else rows[part].mask for part in owners]))
            alpha.append([0.0 if part is None else weights[part] for part in owners])
        return Columns(masks=torch.stack(masks), boost=torch.tensor(alpha, device=masks[0].device))

    def _regional_rule(self) -> Regional:
        """The mask of each region, and the weight of each of its sub-instruction's words."""
        import torch

        assert self._alone is not None
        most = self._alone.shape[1]
        masks, alpha = [], []
        for b, placed in enumerate(self._layouts):
            rows, weights = self.regions()[b], self._weights(b, "attention")
            nothing = [torch.zeros_like(rows[0].mask)] * (most - len(rows))
            masks.append(torch.stack([*(region.mask for region in rows), *nothing]))
            owners = [self._placed_alone(b, part).owners() for part in range(placed.parts)]
            own = [[0.0 if o is None else weights[part] for o in owners[part]] for part in range(placed.parts)]
            alpha.append(own + [[0.0] * placed.length] * (most - len(rows)))
        everywhere = None
        if self.method.columns == "text":
            counts = [placed.parts for placed in self._layouts]
            rows = [[1 / n] * n + [0.0] * (most - n) for n in counts]
            everywhere = torch.tensor(rows, device=masks[0].device)
        boost = torch.tensor(alpha, device=masks[0].device)
        return Regional(embeds=self._alone, masks=torch.stack(masks), boost=boost, everywhere=everywhere)

    def _weights(self, b: int, of: str) -> Sequence[float]:
        """The user's weights where they act on ``of``, ``attention`` or ``guidance``; else ones."""
        weights = self.context.weights[b]
        return weights if self.method.weigh in (of, "both") else [1.0] * len(weights)

    def _union(self, b: int) -> torch.Tensor:
        """Where any sub-instruction is followed, (h, w)."""
        import torch

        return torch.stack([region.mask for region in self.regions()[b]]).amax(0)

    def _text_mask(self, *, confined: bool) -> torch.Tensor | None:
        """At the latents' size (equation 8). A weight acts on its region in every step."""
        import torch

        told = [self._weights(b, "guidance") for b in range(len(self._layouts))]
        if not confined and all(weight == 1 for weights in told for weight in weights):
            return None
        masks = []
        for b, weights in enumerate(told):
            fine = torch.stack([self._fine(b, part) for part in range(len(weights))])
            weighted = (fine * torch.tensor(weights).to(fine)[:, None, None]).amax(0)
            masks.append(weighted if confined else 1 - fine.amax(0) + weighted)
        return torch.stack(masks)[:, None]

    def _fine(self, b: int, part: int) -> torch.Tensor:
        """A region at the latents' size: the user's own mask keeps the edges that the grid of the maps has no room for."""
        own, mask = self._own(b, part), self.regions()[b][part].mask
        values = Mask(values=mask[None, None]) if own is None else Mask.from_arrays([own])
        return values.resized(*self.latent_side).values[0, 0].to(mask.device)


def _drawn(tau: Any, generator: Any) -> float:
    """The threshold of a picture: fixed, or drawn by its seed beside the noise, whose draws stay as they are."""
    if not isinstance(tau, tuple):
        return float(tau)
    return random.Random(f"tau {generator.initial_seed()}").uniform(tau[0], tau[-1])
