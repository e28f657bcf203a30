"""How does a job of lines become one of positions? Aligned, and left with the classes that labels name."""

from __future__ import annotations

from onnxtweak.data.splits import Splits
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.subject import Subject
from onnxtweak.errors import UsageError
from onnxtweak.settings import DataSettings
from onnxtweak.stages.lines.align_lines import align_splits, seen_in
from onnxtweak.stages.lines.find_alphabet import alphabet_of
from onnxtweak.stages.lines.name_classes import with_named_classes


def settle_lines(
    splits: Splits,
    subject: Subject,
    engine: Engine,
    data: DataSettings,
    *,
    whole: bool,
) -> tuple[Splits, Subject]:
    """Splits with a label for each position, and the subject with the classes that these name.

    What has labels already only gets the latter. whole : whether the
    samples are not split. Raises DataError for texts that the model cannot read, UsageError for a blank
    where no text is to be aligned.
    """
    if any(view.dataset.lines is not None for view in splits.views):
        alphabet = alphabet_of(data, subject.classes, seen_in(splits.fit, subject, engine))
        splits = align_splits(splits, subject, alphabet, engine, data.seed, whole=whole)
    elif data.blank is not None:
        raise UsageError(
            "no sample has a text as its label, and without one a blank has no use",
            where="--blank",
            hint="leave it out, or give what stands in each sample and --alphabet FILE",
        )
    return with_named_classes(splits, subject)
