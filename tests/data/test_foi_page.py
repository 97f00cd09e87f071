"""The page's example and schema of our own layout are what the loader takes."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, fields
from pathlib import Path

from showtell.data import foi

PAGE = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"


def test_the_example_and_the_schema_are_the_loaders():
    example, schema = map(
        json.loads, re.findall(r"^```json\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    )
    assert foi.parse(example).instructions[1].keyword == "tree"
    for shape, told in ((foi.Entry, schema), (foi.Told, schema["properties"]["instructions"]["items"])):
        assert set(told["properties"]) == {field.name for field in fields(shape)}
        assert told["required"] == [field.name for field in fields(shape) if field.default is MISSING]
    assert schema["properties"]["instructions"]["maxItems"] == foi.MOST
