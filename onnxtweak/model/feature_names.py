"""What does a model call the features of its input? Names in its metadata, by converters or users."""

from __future__ import annotations

import json
from contextlib import suppress

from onnx import ModelProto

_KEYS = ("feature_names", "feature_names_in_", "features", "columns")


def feature_names(proto: ModelProto) -> tuple[str, ...] | None:
    """Names of the features of the model's input, from its metadata: a JSON list, or text with commas."""
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    for key in _KEYS:
        text = metadata.get(key, "").strip()
        with suppress(ValueError):
            names = json.loads(text) if text.startswith("[") else [name.strip() for name in text.split(",")]
            if len(names) > 1 and all(isinstance(name, str) and name for name in names):
                return tuple(names)
    return None
