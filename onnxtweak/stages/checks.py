"""The proofs a file must pass before it is handed over (docs/surgery.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from onnxtweak._version import __version__
from onnxtweak.engine.session import open_session
from onnxtweak.engine.subject import Subject
from onnxtweak.errors import VerificationError
from onnxtweak.head import Head
from onnxtweak.model.edit.diff import diff, only_the_splice
from onnxtweak.model.edit.record import recorded_tweak, silenced
from onnxtweak.model.edit.revert import revert_tweak
from onnxtweak.model.edit.splice import splice
from onnxtweak.model.file.model_file import ModelFile
from onnxtweak.model.file.tweak_metadata import TweakInside, tweaks_inside
from onnxtweak.patch import Tweak
from onnxtweak.settings import EngineSettings
from onnxtweak.types import Check

# Logits of the file against logits from the tables, as part of the largest: sums in another order, rounded
# to the type that the model computes in.
_TOLERANCE = {"float64": 1e-6, "float32": 1e-4, "float16": 4e-3, "bfloat16": 3e-2}


def as_subject(subject: Subject, data: bytes) -> Subject:
    """The same subject with other bytes: a tweaked file that need not be on disk yet."""
    return replace(subject, model=subject.model.holding(data))


def check_neutral(
    subject: Subject, tweak: Tweak, feeds: dict[str, np.ndarray], engine: EngineSettings
) -> Check:
    """Scale 0 gives the base: bit for bit on the CPU, the same decisions elsewhere. feeds : one batch."""
    nothing = splice(subject.model, tweak, subject.logits_format, scale=0.0)
    before, device = _logits(subject, feeds, engine)
    after, _ = _logits(as_subject(subject, nothing), feeds, engine)
    return _same_logits("scale 0", subject.head, before, after, device)


def _same_logits(who: str, head: Head, before: np.ndarray, after: np.ndarray, device: str) -> Check:
    samples = len(before)
    if np.array_equal(before, after, equal_nan=True):
        return Check("neutral", True, f"{who} equals the base bit for bit on {samples} samples")
    differ = int((head.predict(before) != head.predict(after)).sum())
    largest = float(np.nanmax(np.abs(before.astype(np.float64) - after)))
    passed = device != "cpu" and differ == 0
    return Check(
        "neutral",
        passed,
        f"{who} moves logits by up to {largest:.2g}; {differ} of {samples} decisions differ",
    )


def _logits(subject: Subject, feeds: dict[str, np.ndarray], engine: EngineSettings) -> tuple[np.ndarray, str]:
    """Logits (b, C) of one batch, and the device that made them."""
    exposed = subject.exposed()
    session = open_session(exposed.proto, subject.model.folder, engine, subject.model.path)
    needed = {port.name: feeds[port.name] for port in session.inputs}
    return session.run(needed, [exposed.logits])[0].reshape(-1, subject.classes), session.device


def check_silenced(
    base: Subject, tweaked: Subject, feeds: dict[str, np.ndarray], engine: EngineSettings
) -> Check:
    """With the tweaks' weights at zero the file computes its base: neutral, told without the tweak."""
    before, device = _logits(base, feeds, engine)
    after, _ = _logits(as_subject(tweaked, silenced(tweaked.model.proto).SerializeToString()), feeds, engine)
    return _same_logits("with zero weights the file", base.head, before, after, device)


def check_shadow(
    subject: Subject,
    tweak: Tweak,
    data: bytes,
    scale: float,
    feeds: dict[str, np.ndarray],
    engine: EngineSettings,
) -> Check:
    """The base's bytes come first, its logits are untouched, and the shadow is what the tweak would give."""
    shadowed = as_subject(subject, data)
    shown = tweaks_inside(shadowed.model.proto)[-1].shadow
    if shown is None or not data.startswith(subject.model.data):
        return Check("shadow", False, "the file does not begin with the base's bytes")
    constant = as_subject(subject, splice(subject.model, tweak, subject.logits_format, scale=scale))
    pairs = (
        (_logits(subject, feeds, engine)[0], _logits(shadowed, feeds, engine)[0]),
        (_logits(constant, feeds, engine)[0], _logits(replace(shadowed, logits=shown), feeds, engine)[0]),
    )
    if not np.array_equal(*pairs[0], equal_nan=True):
        return Check("shadow", False, "the base's logits changed")
    return check_close("shadow", f"behind the base's bytes '{shown}'", *pairs[1], subject.dtype)


def check_close(name: str, who: str, expected: np.ndarray, found: np.ndarray, dtype: str) -> Check:
    """Two ways to the same logits (N, C) of type `dtype` agree up to rounding."""
    size = max(1.0, float(np.abs(expected).max(initial=0.0)))
    error = float(np.abs(expected.astype(np.float64) - found).max(initial=0.0)) / size
    detail = f"{who} equals what is written into the model within {error:.1g} of the largest logit"
    return Check(name, error <= _TOLERANCE[dtype], detail)


def check_undone(data: bytes, inside: Sequence[TweakInside]) -> tuple[Check, tuple[bytes, ...]]:
    """Every tweak comes off again and leaves the file it was put into, byte for byte, by its sha256.

    Also gives those files, from the last but one tweak down to the base; fewer where the check failed.
    """
    stages: list[bytes] = []
    for tweak in reversed(inside):
        try:
            data = revert_tweak(data, tweak)
        except VerificationError as error:
            return Check("revert", False, f"tweak {tweak.number}: {error.what}"), tuple(stages)
        stages.append(data)
    count = "the tweak comes" if len(inside) == 1 else f"all {len(inside)} tweaks come"
    return Check("revert", True, f"{count} off, and the base's sha256 is what it was"), tuple(stages)


def check_base(made_for: str, base: ModelFile, called: str) -> Check:
    """`base`, external weights included, is what the tweak says it was made for."""
    if base.base_sha256 == made_for:
        weights = ", external weights included" if base.external else ""
        return Check("base", True, f"{called} is the base that was recorded{weights}")
    reason = f"sha256 {base.base_sha256[:12]}, recorded is {made_for[:12]}"
    return Check("base", False, f"{called} is not the base that the tweak was made for: {reason}")


def check_record(base: Subject, inside: TweakInside, data: bytes) -> Check | None:
    """What the record says was added is what was added: adding it again gives `data`, byte for byte.

    None where that cannot be told: dense weights are not in the record, other versions may add otherwise.
    """
    tweak = recorded_tweak(inside)
    if tweak is None or inside.version != __version__:
        return None
    shadow = inside.shadow is not None
    again = splice(base.model, tweak, base.logits_format, scale=inside.scale, shadow=shadow)
    if again == data:
        count = len(tweak.neurons)
        return Check("record", True, f"the {count} recorded synapses give this file, byte for byte")
    return Check("record", False, "the recorded synapses give another file than this one")


def check_simulation(
    head: Head,
    logits: np.ndarray,
    measured: np.ndarray,
    labels: np.ndarray,
    dtype: str = "float32",
) -> Check:
    """The tables foretold the file.

    logits (N, C) : from tables. measured (N, C) : the file's logits. labels (N,) int.
    dtype : of the model's logits.
    """
    tolerance = _TOLERANCE[dtype]
    predicted, found = head.predict(logits), head.predict(measured)
    if head.single_logit:  # only the difference counts
        logits = logits - logits[:, :1]
    wrong = int((found != predicted).sum())
    size = np.maximum(1.0, np.abs(logits).max(initial=0.0))
    error = float(np.abs(measured.astype(np.float64) - logits).max(initial=0.0) / size)
    right = int((predicted == labels).sum()), int((found == labels).sum())
    # A decision may only differ where two logits lie closer than the tolerance.
    top = np.sort(logits, axis=1)[:, -2:]
    close = int((top[:, 1] - top[:, 0] <= 2 * tolerance * size).sum())
    return Check(
        "simulation",
        error <= tolerance and wrong <= close,
        f"{right[0]} right foretold, {right[1]} measured; logits within {error:.1g} of the largest",
    )


def check_checker(base: ModelFile, data: bytes) -> Check:
    """ONNX's own checker is no less content than with the base."""
    before, after = _complaint(base.data), _complaint(data)
    if after is None:
        return Check("checker", True, "the ONNX checker accepts it")
    if before is not None:
        return Check("checker", True, "the ONNX checker complains about the base already")
    return Check("checker", False, f"the ONNX checker complains: {after}")


def _complaint(data: bytes) -> str | None:
    try:
        onnx.checker.check_model(data)
    except Exception as error:  # the checker's errors share no base class
        return " ".join(str(error).split())[:200]
    return None


def check_unharmed(base: ModelFile, data: bytes) -> Check:
    """The difference names only the splice, and the base on disk is what it was."""
    on_disk = hashlib.sha256(base.path.read_bytes()).hexdigest()
    if on_disk != base.sha256:
        return Check("unharmed", False, f"the base changed on disk while this ran: {base.path}")
    return check_difference(base, data)


def check_difference(base: ModelFile, data: bytes) -> Check:
    """The difference names only the splice."""
    differences = diff(base.proto, data)
    strange = [d for d in differences if not d.expected]
    if only_the_splice(differences):
        return Check(
            "unharmed", True, f"{len(differences)} differences from the base, all of them the splice"
        )
    return Check("unharmed", False, f"unexpected difference at {strange[0].where}: {strange[0].detail}")


def check_reload(
    path: Path, sha256: str, subject: Subject, feeds: dict[str, np.ndarray], engine: EngineSettings
) -> Check:
    """The written file holds the proven bytes, loads from disk, and runs with batch 1 and an odd batch."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        return Check("reload", False, "the file on disk is not what was proven")
    session = open_session(path, path.parent, engine, path)
    sizes = (subject.batch,) if subject.batch else (1, 3)
    outputs = [session.run({p.name: feeds[p.name][:size] for p in session.inputs}) for size in sizes]
    same = all(
        _close(one[:1], other[:1])
        for one, other in zip(outputs[0], outputs[-1], strict=True)
        if isinstance(one, np.ndarray) and one.dtype.kind == "f" and one.ndim
    )
    words = " and ".join(str(size) for size in sizes)
    return Check("reload", same, f"loads from disk and runs with batch {words}")


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    one, other = one.astype(np.float64), other.astype(np.float64)
    size = max(1.0, float(np.abs(one).max(initial=0.0)))
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=0, atol=1e-3 * size))


def require(checks: tuple[Check, ...]) -> None:
    """Raise VerificationError at the first check that failed."""
    for check in checks:
        if not check.passed:
            raise VerificationError(
                f"check `{check.name}` failed: {check.detail}",
                hint="nothing was written; please report this with the model's structure",
            )
