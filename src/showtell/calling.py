"""Running a method that is a function of another package: picture by picture, without a plan or a loop of ours."""

from __future__ import annotations

from typing import Any

from . import jobs, runs
from .edits import Edit
from .errors import ShowtellError
from .methods.outside import Called
from .watching import Watch


def run(
    pipe: Any,
    batch: list[jobs.Job],
    *,
    model_id: str,
    method: Called,
    origin: dict[str, str],
    sequential: bool,
    watch: Watch,
) -> list[Edit | ShowtellError]:
    """The edits of a batch, or the error of a picture that the function failed on. Between pictures the run can be cancelled.

    A user's mask, transparency and colour profile are kept as under any other method; the recipe names the method and its
    hyper-parameters. Raises ``Cancelled``.
    """
    shared = runs.shared_record(
        pipe, batch, model_id=model_id, method=method, origin=origin, scheduler={}, sequential=sequential
    )
    edits: list[Edit | ShowtellError] = []
    with watch.run(len(batch)) as observe:
        for number, job in enumerate(batch):
            told = [one.text for one in job.instructions]
            try:
                image = method.edit(job.picture.rgb.copy(), told, seed=job.seed)
                edits.append(runs.finish(job, image, shared, latents=None, found=None, apart=False))
            except ShowtellError as error:
                edits.append(error)
            observe(number, None)
    return edits
