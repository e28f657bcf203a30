"""onnxtweak: better accuracy for chosen classes of a trained ONNX classifier, without retraining it.

The commands are functions too, with the same words: `onnxtweak.join("model.onnx", data="samples.npz",
target="cat", output="tweaked.onnx")`. See `onnxtweak.api`, which is loaded when one is first asked for, and
`onnxtweak.errors` for what they raise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxtweak import errors as errors
from onnxtweak._version import __version__ as __version__

if TYPE_CHECKING:
    from onnxtweak.api import (
        apply,
        augment,
        compare,
        diff,
        evaluate,
        fit,
        inspect,
        join,
        retrain,
        revert,
        run,
        score,
    )

__all__ = [
    "apply",
    "augment",
    "compare",
    "diff",
    "evaluate",
    "fit",
    "inspect",
    "join",
    "retrain",
    "revert",
    "run",
    "score",
]


def __getattr__(name: str) -> Any:
    # NumPy, ONNX and the runtime are loaded here, not with the package: `--help` must not wait for them.
    if name in __all__:
        from onnxtweak import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(["__version__", "errors", *__all__])
