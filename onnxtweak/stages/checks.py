"""Which checks must a file pass before it is delivered (docs/surgery.md)?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from onnxtweak._version import __version__
from onnxtweak.engine.answer.shown import ShownClasses
from onnxtweak.engine.machine.malloc_trim import malloc_trim
from onnxtweak.engine.session import open_session, session_of
from onnxtweak.engine.subject import Subject, filled
from onnxtweak.errors import DataError, VerificationError
from onnxtweak.head import ROUNDING
from onnxtweak.model.edit.diff import diff, only_the_splice
from onnxtweak.model.edit.digests import bytes_changed, deviations
from onnxtweak.model.edit.patch_nodes import PIECE_FORM
from onnxtweak.model.edit.record import recorded_tweak, silenced
from onnxtweak.model.edit.revert import revert_tweak
from onnxtweak.model.edit.splice import splice, splice_to_run
from onnxtweak.model.file.model_file import ModelFile
from onnxtweak.model.file.tweak_metadata import TweakInside, tweaks_inside
from onnxtweak.model.inspect.graph_checks import quantises
from onnxtweak.patch import Tweak
from onnxtweak.settings import EngineSettings
from onnxtweak.types import Check, Unchecked

_RARE = 0.02  # share of samples
_MOST_NAMED = 5  # changed parts that a detail names
# Samples that a written file has to take at once; two where the hidden tensors of so many hold more values.
MANY, _MOST_VALUES = 3, 1 << 25
# By how much the logits of one sample may differ in two batches, as a fraction of the largest; and how many
# times as much as the base's, for what amplifies them.
_BETWEEN_BATCHES, _TIMES_THE_BASE = 1e-3, 4.0
# What to do where the fault need not be ours.
_REMEDIES = {
    "neutral": "the runtime computes the base in another way where a tweak reads it: choose other tensors "
    "with --taps; see `onnxtweak inspect`",
    "simulation": "the model's logits depend on how samples are batched, or on the machine: try --batch 1",
    "reload": "the file must run as its base does: run the base with batches of 1 and 3",
}


def as_subject(subject: Subject, data: bytes) -> Subject:
    """The subject with other bytes: a tweaked file that need not be on disk yet."""
    return replace(subject, model=subject.model.holding(data))


def check_neutral(
    subject: Subject, tweak: Tweak, feeds: dict[str, np.ndarray], engine: EngineSettings
) -> Check:
    """Scale 0 gives the base: bit for bit on the CPU, the same decisions elsewhere. feeds : one batch."""
    at_zero = splice_to_run(subject.model, tweak, subject.logits_format, scale=0.0)
    before, device = run_batch(subject, feeds, engine)
    after, _ = run_batch(as_subject(subject, at_zero), feeds, engine)
    return _check_same("scale 0", subject, before, after, device)


def _check_same(who: str, base: Subject, before: np.ndarray, after: np.ndarray, device: str) -> Check:
    """Bit for bit; but a quantised base makes a step of a rounding, on a rare sample."""
    samples, head = len(before), base.head
    if np.array_equal(before, after, equal_nan=True):
        return Check("neutral", True, f"{who} equals the base bit for bit on {samples:,} {base.rows}")
    differ = int((head.predict(before) != head.predict(after)).sum())
    largest = float(np.nanmax(np.abs(before.astype(np.float64) - after)))
    detail = f"{who} changes logits by up to {largest:.2g}; {differ} of {samples} decisions differ"
    changed = int((before != after).any(axis=1).sum())
    if differ == 0 and changed <= max(1, _RARE * samples) and quantises(base.model.graph):
        detail += f"; the base is quantised, and makes steps of roundings, on {changed} of them"
        return Check("neutral", True, detail)
    return Check("neutral", device != "cpu" and differ == 0, detail)


def run_batch(
    subject: Subject,
    feeds: dict[str, np.ndarray],
    engine: EngineSettings,
    slot: dict[str, np.ndarray] | None = None,
) -> tuple[np.ndarray, str]:
    """Logits (b, C) of one batch, and the device that computed them. slot : what fills the model's slot."""
    exposed = subject.exposed()
    session = session_of(subject.model, exposed.proto, engine)
    logits = subject.run(session, exposed.logits, feeds, slot)
    return logits.reshape(-1, subject.classes), session.device


def check_silenced(
    base: Subject, tweaked: Subject, feeds: dict[str, np.ndarray], engine: EngineSettings
) -> Check:
    """With the tweaks' weights at zero the file computes its base: `neutral` from the file alone."""
    before, device = run_batch(base, feeds, engine)
    after, _ = run_batch(
        as_subject(tweaked, silenced(tweaked.model.proto).SerializeToString()), feeds, engine
    )
    return _check_same("with zero weights the file", base, before, after, device)


def check_shadow(
    subject: Subject,
    tweak: Tweak,
    data: bytes,
    scale: float,
    feeds: dict[str, np.ndarray],
    engine: EngineSettings,
) -> Check:
    """The file keeps the base's logits, and its shadow is the tweaked logits."""
    shadowed = as_subject(subject, data)
    output = tweaks_inside(shadowed.model.proto)[-1].shadow
    if output is None:
        return Check("shadow", False, "the file has no output with tweaked logits")
    constant = splice_to_run(subject.model, tweak, subject.logits_format, scale=scale)
    pairs = (
        (run_batch(subject, feeds, engine)[0], run_batch(shadowed, feeds, engine)[0]),
        (
            run_batch(as_subject(subject, constant), feeds, engine)[0],
            run_batch(replace(shadowed, logits=output), feeds, engine)[0],
        ),
    )
    if not np.array_equal(*pairs[0], equal_nan=True):
        return Check("shadow", False, "the base's logits changed")
    return check_close("shadow", f"output '{output}'", *pairs[1], subject.dtype)


def check_close(name: str, who: str, expected: np.ndarray, found: np.ndarray, dtype: str) -> Check:
    """Logits (N, C) of type `dtype` that were computed in two ways agree up to rounding."""
    size = max(1.0, float(np.abs(expected).max(initial=0.0)))
    error = float(np.abs(expected.astype(np.float64) - found).max(initial=0.0)) / size
    detail = f"{who} equals the tweak written into the model within {error:.1g} of the largest logit"
    return Check(name, error <= ROUNDING[dtype], detail)


def check_undone(data: bytes, inside: Sequence[TweakInside]) -> tuple[Check, tuple[bytes, ...]]:
    """Removing each tweak gives the file that it was put into, byte for byte, by its sha256.

    Also returns those files, the latest first and the base last; fewer where the check failed.
    """
    earlier: list[bytes] = []
    for tweak in reversed(inside):
        try:
            data = revert_tweak(data, tweak)
        except VerificationError as error:
            return Check("revert", False, f"tweak {tweak.number}: {error.what}"), tuple(earlier)
        earlier.append(data)
    tweaks = "the tweak" if len(inside) == 1 else f"all {len(inside)} tweaks"
    return Check("revert", True, f"removing {tweaks} gives a file with the base's sha256"), tuple(earlier)


def check_base(made_for: str, base: ModelFile, name: str) -> Check:
    """`base`, external weights included, is what the tweak says it was made for."""
    if base.base_sha256 == made_for:
        weights = ", external weights included" if base.external else ""
        return Check("base", True, f"{name} is the recorded base{weights}")
    found = f"its sha256 is {base.base_sha256[:12]}, recorded is {made_for[:12]}"
    return Check("base", False, f"{name} is not the base that the tweak was made for: {found}")


def check_digests(
    model: ModelFile, inside: Sequence[TweakInside], files: Sequence[bytes]
) -> tuple[Check | Unchecked, ...]:
    """Every array, node and declaration that was added, and the record, are what was written.

    files : the file as each tweak left it, the latest first, whose bytes are compared too; none where another
    tool wrote the file anew.
    """
    digested = [tweak for tweak in inside if tweak.digests is not None]
    found: tuple[Check | Unchecked, ...] = ()
    changed = [str(deviation) for deviation in deviations(model.proto, inside)]
    if not changed:
        pairs = zip(reversed(inside), files, strict=False)
        changed = [
            f"the bytes of tweak {tweak.number} were changed"
            for tweak, data in pairs
            if tweak in digested and bytes_changed(data, model.proto, tweak)
        ]
    if changed:
        more = f" and {len(changed) - _MOST_NAMED} more" if len(changed) > _MOST_NAMED else ""
        found = (Check("digests", False, ", ".join(changed[:_MOST_NAMED]) + more),)
    elif digested:
        numbers = ", ".join(str(tweak.number) for tweak in digested)
        tweaks = f"{'tweak' if len(digested) == 1 else 'tweaks'} {numbers}"
        found = (Check("digests", True, f"all that {tweaks} added, and the record, are as written"),)
    for tweak in inside:
        if tweak.digests is None:
            reason = f"tweak {tweak.number} was written by a version that recorded no digests"
            found = (*found, Unchecked("digests", f"{reason}: its weights could not be compared"))
    return found


def check_record(base: Subject, inside: TweakInside, data: bytes) -> Check | None:
    """The record says what was added: adding it to the base again gives `data`, byte for byte.

    None where that cannot be checked: dense weights are not recorded, other versions may write other bytes.
    """
    tweak = recorded_tweak(inside)
    same_form = inside.version == __version__ and inside.patch.get("form") == PIECE_FORM
    if tweak is None or not same_form or inside.digests is None:
        return None
    shadow = inside.shadow is not None
    again = splice(base.model, tweak, base.logits_format, scale=inside.scale, shadow=shadow)
    if again == data:
        count = len(tweak.neurons)
        return Check("record", True, f"the {count} recorded synapses give this file, byte for byte")
    return Check("record", False, "the recorded synapses give a different file")


def check_answer(subject: Subject, base: ShownClasses, tweaked: ShownClasses) -> Check:
    """Base and file show the class of their highest score, or every label of a positive one; ties aside."""
    wrong = [int(shown.contradicted.sum()) for shown in (base, tweaked)]
    output = "" if subject.answer is None else f" in its output {subject.answer.output!r}"
    rule = subject.head.rule
    if not any(wrong):
        detail = f"the file{output} shows {rule} on all {len(tweaked.Z):,} {subject.rows}"
        return Check("answer", True, detail)
    who, count = ("the base", wrong[0]) if wrong[0] else ("the file", wrong[1])
    detail = f"{who}{output} shows something else than {rule} on {count} of {len(base.Z)} {subject.rows}"
    return Check("answer", False, detail)


def check_checker(base: ModelFile, data: bytes) -> Check:
    """ONNX's own checker accepts the file, or does not accept the base either."""
    before, after = _rejection(base.data), _rejection(data)
    if after is None:
        return Check("checker", True, "the ONNX checker accepts it")
    if before is not None:
        return Check("checker", True, "the ONNX checker rejects the base too")
    return Check("checker", False, f"the ONNX checker rejects it: {after}")


def _rejection(data: bytes) -> str | None:
    try:
        onnx.checker.check_model(data)
    except Exception as error:  # the checker's errors share no base class
        return " ".join(str(error).split())[:200]
    return None


def check_unharmed(base: ModelFile, data: bytes) -> Check:
    """The splice is the only difference from the base, which is unchanged on disk, where it is a file."""
    if base.stored and hashlib.sha256(base.path.read_bytes()).hexdigest() != base.sha256:
        return Check("unharmed", False, f"the base changed on disk during the command: {base.path}")
    return check_difference(base, data)


def check_difference(base: ModelFile, data: bytes) -> Check:
    """The splice is the only difference from the base."""
    differences = diff(base.proto, data)
    if only_the_splice(differences):
        detail = f"{len(differences)} differences from the base, all made by the splice"
        return Check("unharmed", True, detail)
    first = next(difference for difference in differences if not difference.expected)
    return Check("unharmed", False, f"unexpected difference at {first.where}: {first.detail}")


def check_reload(
    path: Path, base: Subject, tweaked: Subject, feeds: dict[str, np.ndarray], engine: EngineSettings
) -> Check:
    """The written file has the checked bytes, loads from disk, and runs with batch 1 and `MANY`.

    tweaked : what was checked. feeds : samples of one size, small ones will do; the last is repeated where
    there are too few. Only its logits are compared between the two batches: other outputs may hold a NaN or a
    mean over the batch. They may differ, and other outputs fail, where those of the base do.
    """
    if hashlib.sha256(path.read_bytes()).hexdigest() != tweaked.model.sha256:
        return Check("reload", False, "the file on disk differs from the one that was checked")
    large = MANY * base.maps > _MOST_VALUES
    sizes = (tweaked.batch,) if tweaked.batch else (1, 2 if large else MANY)
    if large:
        malloc_trim()  # what passes freed piece by piece is of no use to tensors of large pictures
    feeds = {name: filled(rows[: sizes[-1]], sizes[-1]) for name, rows in feeds.items()}
    detail = f"loads from disk and runs with batch {' and '.join(map(str, sizes))}"
    written = replace(tweaked, model=replace(tweaked.model, path=path))
    refused = _refused(written, path, sizes, feeds, engine)
    if refused and not _refused(base, base.model.data, sizes, feeds, engine):
        return Check("reload", False, f"loads from disk but does not run, as its base does: {refused}")
    if refused:
        detail += ", but for outputs beside the logits, which do not run in the base either"
    # Of the same bytes sessions are open, but where weights were copied beside the written file.
    found = _between_batches(written if tweaked.model.external else tweaked, sizes, feeds, engine)
    if found <= _BETWEEN_BATCHES:
        return Check("reload", True, detail)
    usual = _between_batches(base, sizes, feeds, engine)
    detail += f", between which logits differ by {found:.1g} of the largest, the base's by {usual:.1g}"
    return Check("reload", usual > _BETWEEN_BATCHES or found <= _TIMES_THE_BASE * usual, detail)


def _refused(
    subject: Subject,
    model: Path | bytes,
    sizes: Sequence[int],
    feeds: dict[str, np.ndarray],
    engine: EngineSettings,
) -> str:
    """Why the whole model does not run on some samples, inputs that the logits do not need made up; or ""."""
    session = open_session(model, subject.model.folder, engine, subject.model.path, stores=False)
    try:
        for size in sizes:
            few = {name: rows[:size] for name, rows in feeds.items()}
            session.run(subject.feeding.filled(session, few))
    except DataError as error:
        return error.what
    return ""


def _between_batches(
    subject: Subject, sizes: Sequence[int], feeds: dict[str, np.ndarray], engine: EngineSettings
) -> float:
    """By how much a sample's logits differ between batches of several sizes, as a fraction of the largest."""
    runs = [run_batch(subject, {k: rows[:n] for k, rows in feeds.items()}, engine)[0] for n in sizes]
    own = len(runs[0]) // sizes[0]
    one, other = (run[:own].astype(np.float64) for run in (runs[0], runs[-1]))
    if np.array_equal(one, other, equal_nan=True):
        return 0.0
    size = max(1.0, float(np.abs(one).max()))
    error = float(np.abs(one - other).max()) / size
    return error if np.isfinite(error) else np.inf


def require(checks: tuple[Check, ...]) -> None:
    """Raise VerificationError at the first check that failed."""
    for check in checks:
        if not check.passed:
            remedy = _REMEDIES.get(check.name, "please report this with the model's structure")
            raise VerificationError(
                f"check `{check.name}` failed: {check.detail}", hint=f"nothing was written; {remedy}"
            )
