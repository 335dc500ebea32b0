"""From a pipeline's configuration to the format that decodes its messages."""

from __future__ import annotations

import time
from collections.abc import Callable

from shared.inputs import Inputs
from tier1.formats.cbor_format import CborFormat
from tier1.formats.config import (
    CborConfig,
    FormatConfig,
    JsonConfig,
    MsgpackConfig,
    NpyConfig,
    RawConfig,
)
from tier1.formats.decoded import Format
from tier1.formats.json_format import JsonFormat
from tier1.formats.msgpack_format import MsgpackFormat
from tier1.formats.npy import NpyFormat
from tier1.formats.raw import RawFormat
from tier1.formats.senml import SenmlFormat


def open_format(
    config: FormatConfig,
    inputs: Inputs,
    max_payload_bytes: int,
    clock: Callable[[], float] = time.time,
) -> Format:
    """Returns what decodes the messages of a pipeline.

    Args:
        config: the key ``format:`` of the pipeline.
        inputs: what a row is.
        max_payload_bytes: larger payloads are refused unread.
        clock: seconds since 1970, for SenML's times relative to now.

    Raises:
        FormatConfigError: the format does not fit the inputs, or needs a library that is not
            installed.
    """
    match config:
        case JsonConfig():
            return JsonFormat(config, inputs, max_payload_bytes)
        case CborConfig():
            return CborFormat(config, inputs, max_payload_bytes)
        case MsgpackConfig():
            return MsgpackFormat(config, inputs, max_payload_bytes)
        case NpyConfig():
            return NpyFormat(config, inputs, max_payload_bytes)
        case RawConfig():
            return RawFormat(config, inputs, max_payload_bytes)
        case _:
            return SenmlFormat(config, inputs, max_payload_bytes, clock)
