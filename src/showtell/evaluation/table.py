"""The figures of every picture as a parquet table."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files
from ..errors import UsageError

if TYPE_CHECKING:
    from ..metrics.protocol import Protocol

_FIXED = ("id", "system", "group", "seed", "seconds", "error")


def check() -> None:
    """Raise ``UsageError`` unless parquet can be written here. Call it before long work."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise UsageError("results are kept as parquet, which needs pyarrow: pip install 'showtell[metrics]'") from error


def write(path: Path, scores: Sequence[Mapping[str, Any]], groups: Mapping[str, str], protocol: Protocol) -> None:
    """One line a (system, picture): ``id``, ``system``, ``group``, ``seed``, ``seconds``, ``error``, and one column a measure,
    null where it is not defined. The protocol is in the schema's metadata, as JSON under ``protocol``.
    """
    import pyarrow as pa
    from pyarrow import parquet

    kinds = [pa.string(), pa.string(), pa.string(), pa.int64(), pa.float64(), pa.string()]
    measures = [measure.name for measure in protocol.measures if measure.reduction != "set"]
    fields = [pa.field(name, kind) for name, kind in zip(_FIXED, kinds, strict=True)]
    schema = pa.schema(
        [*fields, *(pa.field(name, pa.float64()) for name in measures)],
        metadata={"protocol": json.dumps(protocol.describe(), ensure_ascii=False)},
    )
    lines = [
        {**{name: one.get(name) for name in _FIXED}, "group": groups.get(one["id"], ""), **_values(one, measures)}
        for one in scores
    ]
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(lines, schema=schema), buffer)
    files.write_atomic(path, buffer.getvalue(), force=True)


def read(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The lines and the protocol of such a table."""
    from pyarrow import parquet

    found = parquet.read_table(path)
    return found.to_pylist(), json.loads((found.schema.metadata or {}).get(b"protocol", b"{}"))


def _values(one: Mapping[str, Any], measures: Sequence[str]) -> dict[str, float | None]:
    return {name: one["values"].get(name) for name in measures}
