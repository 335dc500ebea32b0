"""Formats as a node opens them, and what their rows come to."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from shared.inputs import InputDtype, Inputs, InputSpec
from tier1.formats import Decoded, Format, FormatConfig, open_format

NOW_S = 1_700_000_000.5
MAX_BYTES = 4096

_CONFIG: TypeAdapter[Any] = TypeAdapter(FormatConfig)


def opened(
    config: dict[str, Any],
    shape: tuple[int, ...] = (3,),
    dtype: InputDtype = "float32",
    *,
    inputs: Inputs | None = None,
    max_payload_bytes: int = MAX_BYTES,
) -> Format:
    """Opens a format from what the YAML says."""
    section = _CONFIG.validate_json(json.dumps(config))
    layout = inputs or Inputs([InputSpec(shape, dtype=dtype)])
    return open_format(section, layout, max_payload_bytes, lambda: NOW_S)


def rows(
    decoded: Decoded, shape: tuple[int, ...] = (3,), dtype: InputDtype = "float32"
) -> NDArray[Any]:
    """Returns the samples as an array [N, *shape], as the batch makes it, after looking at them."""
    if isinstance(decoded.rows, list):
        assert len(decoded.rows) == np.prod(shape)
        assert all(type(number) is float for number in decoded.rows)
        with np.errstate(over="ignore"):
            return np.array(decoded.rows, dtype).reshape(1, *shape)
    assert decoded.rows.dtype == dtype
    assert decoded.rows.shape[1:] == shape
    return decoded.rows
