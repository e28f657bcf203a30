"""onnxtweak: better accuracy for chosen classes of a trained ONNX classifier, without retraining it.

The commands are functions too, with the same words: `onnxtweak.join("model.onnx", data="samples.npz",
target="cat", output="tweaked.onnx")`. See `onnxtweak.api`, which is loaded when one is first asked for, and
`onnxtweak.errors` for what they raise.

From the outside to the inside; docs/architecture.md has the picture and the glossary:

__main__     `python -m onnxtweak`
cli          the command line
api          the commands as Python functions
commands     the job of each command, on one screen
stages       what several commands do
method       which neurons, how many, how strong: from scores and tables to a patch
engine       a model run over samples, within a given memory
theta        the score of each neuron for each target
model        what is in an ONNX file, and how it is edited
data         labelled samples, and how they become the model's input
recipe       what a recipe asks for, and whether its gates passed
report       a result as text, Markdown, JSON, an HTML page
results      what a command hands back
standings    how the methods of a comparison did
plans        what a command would do, for a dry run
verdict      which promises a patch kept
sample_counts  what became of the samples of each class or group
intervals    how far an accuracy, or a change of it, can be trusted
goal         which samples should do better, and what must not get worse
metric       what "better" means, if not accuracy
listed       what became of samples that were listed one by one
other_answers  what other models and runtimes answer beside a tweaked one
boxes        which boxes overlap, which are found, and how well
ctc          which characters classes stand for, and what is read in a line of text
head         how logits become the answer that is shown
registry     the methods that are commands
patch        what is added to the logits: synapses, linear, MLP
types        the nouns that the stages hand to each other, and the letters of all shapes
settings     what a user can ask for
bounded      which numbers are allowed there
printable    names that anybody may have written, safe on a terminal
disk_space   whether there is room on a disk, and what is said where there is none
temporary_files  unfinished work, and who clears up after a process that died
input_files  which files may be read whole
in_memory    samples that a program holds in place of a file
quantities   how a number or a size is written, and which it may be
demo_files   the demo's model and samples
errors       what can go wrong, and the exit code of each
_version     the version
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxtweak import errors as errors
from onnxtweak._version import __version__ as __version__

if TYPE_CHECKING:
    from onnxtweak.api import (
        Goal,
        apply,
        augment,
        compare,
        diff,
        evaluate,
        fit,
        inspect,
        join,
        match,
        open,
        retrain,
        revert,
        run,
        score,
    )

__all__ = [
    "Goal",
    "apply",
    "augment",
    "compare",
    "diff",
    "evaluate",
    "fit",
    "inspect",
    "join",
    "match",
    "open",
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
