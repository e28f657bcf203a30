"""The CUDA folds give the CPU's bits: on a GPU where one answers, and compiled for the CPU elsewhere."""

import ctypes
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from onnxtweak.theta import numpy_backend
from onnxtweak.theta.state import ThetaState, empty_state
from tests.support import cupy_on_cpu

SOURCE = Path(numpy_backend.__file__).parent / "cupy" / "theta.cu"
EXACT = [name for name in ThetaState.__dataclass_fields__ if name not in ("seen", "gap")]


def gpu_answers():
    if importlib.util.find_spec("cupy") is None:
        return False
    import cupy

    try:
        return bool(cupy.arange(3).sum() == 3)
    except Exception:
        return False


@pytest.fixture(scope="module", params=["source on the CPU", "GPU"])
def backend(request):
    if request.param == "GPU":
        if not gpu_answers():
            pytest.skip("no GPU answers")
        from onnxtweak.theta.cupy import folds

        return folds
    if cupy_on_cpu.compiler() is None:
        pytest.skip("no C++ compiler")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", cupy_on_cpu)
        spec = importlib.util.spec_from_file_location("cupy_folds_on_cpu", SOURCE.with_name("folds.py"))
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


def batch(rng, rows, neurons, targets, kind):
    """Values and gaps as a run has them: post-activation zeros or both signs, own samples, wrong samples."""
    V = rng.standard_normal((rows, neurons)).astype(np.float32)
    if kind != "signed":
        V = np.maximum(V, 0)
    if kind == "one negative":
        V[rows // 2, neurons - 1] = -3
    if kind == "not finite":
        V[1, 2], V[rows - 1, neurons - 2], V[0, 0] = np.nan, -np.inf, np.inf
    label = rng.integers(0, targets + 3, rows)
    size = (1 / np.abs(rng.standard_normal((rows, targets)))).astype(np.float32)
    own = label[:, None] == np.arange(targets)
    wrong = rng.random(rows) < 0.3
    limit = np.where(own, -size, size) * ~wrong[:, None]
    return (
        V,
        limit.astype(np.float32),
        np.where(own & wrong[:, None], size, np.float32(0)),
        np.where(label < targets, label, -1),
    )


def fold(backend, batches, neurons, targets):
    """All batches through the three folds; a state in NumPy."""
    on_gpu = backend is not numpy_backend
    state = backend.new_state(neurons, targets) if on_gpu else empty_state(neurons, targets)
    put = backend.place if on_gpu else np.asarray
    for V, limit, _, member in batches:
        V = put(V)
        backend.fold_limits(V, limit, state.hi, state.lo, state.bad)
        backend.fold_sums(V, member, state.total, state.peak)
    for V, _, wanted, _ in batches:
        backend.fold_wanted(
            put(V), wanted, state.hi, state.lo, state.count_hi, state.count_lo, state.last_hi, state.last_lo
        )
    return backend.host_state(state) if on_gpu else state


# Few targets: 2 or 4 neurons a thread, side by side or not. Many: 4 or 8 threads of targets, V read by one
# or by four.
SIZES = [(1, 700), (3, 513), (5, 130), (10, 300), (16, 65), (17, 530), (33, 264)]


KINDS = ("relu", "signed", "one negative", "not finite")


@pytest.mark.parametrize(
    ("targets", "neurons", "kind"),
    # Each size with two kinds, which take turns.
    [(*size, kind) for k, size in enumerate(SIZES) for kind in KINDS[k % 2 :: 2]],
)
def test_bits_are_the_cpus(backend, targets, neurons, kind):
    rng = np.random.default_rng(targets)
    many = (64,) if kind in ("relu", "signed") else ()
    batches = [batch(rng, rows, neurons, targets, kind) for rows in (37, 8, *many)]
    made = fold(backend, batches, neurons, targets)
    with np.errstate(invalid="ignore"):
        expected = fold(numpy_backend, batches, neurons, targets)
    np.testing.assert_array_equal(made.bad, expected.bad)
    assert made.bad.sum() == (3 if kind == "not finite" else 0)
    assert (expected.lo > 0).any() and (expected.count_hi > 0).any()
    good = ~expected.bad
    for name in EXACT:
        ours, theirs = getattr(made, name), getattr(expected, name)
        assert ours.dtype == theirs.dtype, name
        np.testing.assert_array_equal(ours[..., good], theirs[..., good], err_msg=name)


def test_batches_without_a_target_sample_change_no_sums(backend):
    V = np.ones((5, 9), np.float32)
    zeros = np.zeros((5, 2), np.float32)
    made = fold(backend, [(V, zeros, zeros, np.full(5, -1))], 9, 2)
    expected = empty_state(9, 2)
    for name in EXACT:
        np.testing.assert_array_equal(getattr(made, name), getattr(expected, name), err_msg=name)


def nvrtc():
    """The run-time compiler of the package nvidia-cuda-nvrtc, or None."""
    spec = importlib.util.find_spec("nvidia")
    for folder in [] if spec is None else spec.submodule_search_locations:
        for library in sorted(Path(folder).glob("**/libnvrtc.so.*")):
            return ctypes.CDLL(str(library))
    return None


# All is the same text for both chips: each of the cases is compiled for one of them.
@pytest.mark.parametrize(
    ("chip", "targets"),
    [
        *(("sm_90", n) for n in (1, 16, 1000, None)),
        ("sm_80", 4),
        ("sm_80", 17),
    ],
)
def test_cuda_source_compiles_without_a_gpu(backend, chip, targets):
    """targets : None: the folds that do not depend on them."""
    if backend.__name__ != "cupy_folds_on_cpu":
        pytest.skip("tried once is enough")
    library = nvrtc()
    if library is None:
        pytest.skip("the package nvidia-cuda-nvrtc is not installed")
    if targets is None:
        options, wanted = ("-DOWN",), OWN
    elif targets <= backend.FEW:
        options, wanted = backend.few_options(targets, targets + 1), ["limits_few", "limits_few_signed"]
    else:
        options = backend.many_options(targets, 4 * targets + 2)
        wanted = ["limits_many", "limits_many_signed"]
    text = compiled(library, [*options, f"-arch={chip}", "-std=c++17"])
    assert re.findall(r"\.entry (\w+)", text) == wanted
    assert f".target {chip}" in text


OWN = ["limits_own", "sums", "wanted"]


def compiled(library, options):
    """PTX of theta.cu. The assertions carry the compiler's own words."""
    program = ctypes.c_void_p()
    code = SOURCE.read_bytes()
    assert library.nvrtcCreateProgram(ctypes.byref(program), code, b"theta.cu", 0, None, None) == 0
    words = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    status = library.nvrtcCompileProgram(program, len(options), words)
    assert status == 0, text_of(library, program, "ProgramLog")
    return text_of(library, program, "PTX")


def text_of(library, program, what):
    size = ctypes.c_size_t()
    assert getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
    text = ctypes.create_string_buffer(size.value)
    assert getattr(library, f"nvrtcGet{what}")(program, text) == 0
    return text.value.decode()
