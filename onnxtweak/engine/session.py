"""How is a model run? In a session of ONNX Runtime, which tells where it really runs."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from onnx import ModelProto

from onnxtweak.engine.machine.gpu import gpu_count, gpu_numbers
from onnxtweak.engine.machine.malloc_trim import malloc_trim
from onnxtweak.errors import DataError, MachineError, ModelError, UsageError
from onnxtweak.model.file.load_failures import why_not_loaded
from onnxtweak.model.file.model_file import ModelFile
from onnxtweak.settings import EngineSettings

try:
    import onnxruntime as ort
except ImportError:  # `require_runtime` says which extra to install
    ort = None

_FATAL = 4  # a severity of ONNX Runtime's log
# Which sessions are worth keeping: of models of so many bytes, so many of each file, and for runs in which
# the hidden tensors hold so many values.
_KEPT_BYTES, _KEPT_SESSIONS, _KEPT_VALUES = 1 << 20, 8, 1 << 22
# Where a sample's hidden tensors hold more values, a session of a whole pass returns each tensor's memory at
# once: ONNX Runtime's own store of it grows by doubling, and with every size of picture. A kept session does
# always: of large pictures, of which a few are looked at, each would hold on to a hundred megabytes.
_RETURNS = 1 << 23
_DTYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "bfloat16": "bfloat16",
    "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64",
    "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64",
    "bool": "bool", "string": "object",
}  # fmt: skip


@dataclass(frozen=True)
class Port:
    """An input or output as the runtime sees it.

    dtype : NumPy name; None for what is not a plain tensor. shape : batch axis first; None where a size
    varies.
    """

    name: str
    dtype: str | None
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Session:
    """A model that is ready to run. Threads that bind outputs must not share it.

    handle : the `onnxruntime.InferenceSession`. where : what errors call the model. device : "cpu" or
    "cuda:i".
    """

    handle: Any
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    where: str
    device: str

    def run(self, feeds: Mapping[str, np.ndarray], names: Sequence[str] | None = None) -> list[np.ndarray]:
        """The named outputs in order, as new arrays; None: all.

        Raises DataError when the model rejects `feeds`.
        """
        with self._explained():
            outputs: list[np.ndarray] = self.handle.run(names, dict(feeds))
        return outputs

    def run_into(self, feeds: Mapping[str, Any], buffers: Mapping[str, Any]) -> None:
        """Fill `buffers` (C-contiguous, by output name), so that the runtime allocates no outputs.

        Feeds and buffers are NumPy arrays, or CuPy arrays on this session's GPU that nothing else uses. Where
        an output is float16 and its buffer is not, the values are widened. Raises DataError when the model
        rejects `feeds`.
        """
        halves = {port.name for port in self.outputs if port.dtype == "float16"}
        bound = {
            name: np.empty_like(array, np.float16) if name in halves else array
            for name, array in buffers.items()
        }
        with self._explained():
            if any(value.dtype.kind == "O" for value in feeds.values()):  # text cannot be bound
                for array, values in zip(
                    bound.values(), self.handle.run(list(bound), dict(feeds)), strict=True
                ):
                    _write(array, values)
            else:
                self._run_bound(feeds, bound)
        for name in halves & buffers.keys():
            buffers[name][...] = bound[name]

    def _run_bound(self, feeds: Mapping[str, Any], buffers: Mapping[str, Any]) -> None:
        binding = self.handle.io_binding()
        for name, value in feeds.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, value)
            else:
                binding.bind_input(name, *_location(value))
        for name, array in buffers.items():
            binding.bind_output(name, *_location(array))
        self.handle.run_with_iobinding(binding)
        binding.synchronize_outputs()

    def providers(self) -> dict[str, int]:
        """How many nodes each execution provider was really assigned."""
        return dict(
            Counter(
                part.ep_name
                for part in self.handle.get_provider_graph_assignment_info()
                for _ in part.get_nodes()
            )
        )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            if type(error).__module__.partition(".")[0] != "onnxruntime" and not isinstance(
                error, (RuntimeError, ValueError)
            ):
                raise
            raise DataError(
                f"the model cannot run on these samples: {_first_line(error)}",
                where=self.where,
                hint="compare the samples with the inputs that `onnxtweak inspect` shows",
            ) from error


def require_runtime() -> None:
    """Raise MachineError when ONNX Runtime is not installed."""
    if ort is None:
        raise MachineError(
            "ONNX Runtime is not installed",
            hint="pip install 'onnxtweak[cpu]', or 'onnxtweak[gpu]' on a machine with an NVIDIA GPU",
        )


def runtime_version() -> str:
    """Version of the installed ONNX Runtime. Raises MachineError when there is none."""
    require_runtime()
    return str(ort.__version__)


def runtime_facts() -> dict[str, Any]:
    """The installed ONNX Runtime: `version`, `cuda` it was built for ("": none), `available` providers."""
    return {
        "version": runtime_version(),
        "cuda": str(getattr(ort, "cuda_version", "") or ""),
        "available": ort.get_available_providers(),
    }


def session_of(
    file: ModelFile, model: ModelProto | bytes, settings: EngineSettings, values: int = 0, samples: int = 1
) -> Session:
    """A session of a model that was made from a file: for equal bytes the same one, while the file is held.

    A job looks at a small model a dozen times, and opening a session takes longer than such a look. values :
    how many values the hidden tensors of a sample hold, at most; for a few looks: 0. samples : how many are
    run. Raises as `open_session`.
    """
    data = model.SerializeToString() if isinstance(model, ModelProto) else model
    if len(data) > _KEPT_BYTES or values * samples > _KEPT_VALUES or file.external:
        opened = open_session(data, file.folder, settings, file.path, stores=values <= _RETURNS)
        if values:  # a pass, which may take long: for a look it would not pay
            malloc_trim()
        return opened
    # Threads must not share a session, see there.
    key = data, settings.threads, settings.device, settings.custom_ops, threading.get_ident()
    with _LOCK:
        kept = _KEPT.setdefault(file, {})
        session = kept.pop(key, None)  # the one used last stays the longest
    if session is None:
        session = open_session(data, file.folder, settings, file.path, stores=False)
    if session.device == "cpu":
        with _LOCK:
            while len(kept) >= _KEPT_SESSIONS:
                del kept[next(iter(kept))]
            kept[key] = session
    return session


_KEPT: WeakKeyDictionary[ModelFile, dict[Any, Session]] = WeakKeyDictionary()
_LOCK = threading.Lock()  # of what is kept: threads look at one file side by side


def open_session(
    model: ModelProto | bytes | Path,
    folder: Path,
    settings: EngineSettings,
    where: object,
    *,
    stores: bool = True,
) -> Session:
    """Load a model. folder : where its external data lies. where : what errors call the model.

    stores : whether memory of hidden tensors is kept for the next run.

    Raises ModelError when ONNX Runtime cannot load it, MachineError when a GPU is requested and cannot be
    used, UsageError when a library of custom operators cannot be loaded.
    """
    require_runtime()
    # Its log goes to stderr past all that makes names from models safe there; errors are raised as well.
    ort.set_default_logger_severity(_FATAL)  # a session's own level does not cover how it is opened
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    options.enable_cpu_mem_arena = stores
    if settings.threads:
        options.intra_op_num_threads = settings.cores
    # Theta's threads run between two runs of the model; a spinning pool would fight them for the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    for library in settings.custom_ops:
        _register(options, library)
    providers = _providers(settings.device)
    source = model.SerializeToString() if isinstance(model, ModelProto) else model
    if isinstance(source, Path):
        source = str(source) if _is_utf8(source) else source.read_bytes()
    try:
        with _in_utf8(Path(folder).resolve()) as external:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", external)
            handle = ort.InferenceSession(source, options, providers=providers)
    except Exception as error:  # see `_explained`
        what, hint = why_not_loaded(str(error), where)
        raise ModelError(
            f"ONNX Runtime {ort.__version__} cannot load the model: {what}", where=where, hint=hint
        ) from error
    device = "cpu"
    if handle.get_providers()[0] != "CPUExecutionProvider":
        device = f"cuda:{gpu_numbers(settings.device)[0]}"
    if settings.device.startswith("cuda") and device == "cpu":
        raise MachineError(
            "a GPU was requested, but ONNX Runtime fell back to the CPU",
            where=settings.device,
            hint="check `nvidia-smi`, the CUDA version of onnxruntime-gpu, and that no second onnxruntime "
            "package is installed",
        )
    return Session(handle, _ports(handle.get_inputs()), _ports(handle.get_outputs()), str(where), device)


def _is_utf8(path: Path) -> bool:
    """Whether ONNX Runtime takes the path: names on a disk may be any bytes, its own are UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def _in_utf8(folder: Path) -> Iterator[str]:
    """The folder as ONNX Runtime takes it: by the number it is open under, where its name is not UTF-8."""
    if _is_utf8(folder):
        yield str(folder)
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{number}"
    finally:
        os.close(number)


def _register(options: Any, library: str) -> None:
    """Load custom operators from a shared library, whose code runs with the user's rights."""
    try:
        options.register_custom_ops_library(str(Path(library).resolve()))
    except Exception as error:  # see `_explained`
        raise UsageError(
            f"cannot load the library of custom operators: {_first_line(error)}",
            where=library,
            hint="name the shared library that defines the model's operators, built for this ONNX Runtime",
        ) from error


def _providers(device: str) -> list[Any]:
    wanted = gpu_numbers(device)
    offered = "CUDAExecutionProvider" in ort.get_available_providers()
    if not wanted or (device == "auto" and not (offered and gpu_count())):
        return ["CPUExecutionProvider"]
    if not offered:
        raise MachineError(
            "a GPU was requested, but this ONNX Runtime has no CUDA provider",
            where=device,
            hint="uninstall onnxruntime, then pip install 'onnxtweak[gpu]'; or use --device cpu",
        )
    if gpu_count() <= max(wanted):
        raise MachineError(
            f"the requested GPU does not answer: the driver shows {gpu_count()}",
            where=device,
            hint="see `nvidia-smi`; GPUs are numbered from 0",
        )
    ort.preload_dlls()
    options = {
        "device_id": str(wanted[0]),
        "use_tf32": "0",  # TF32 would round the values that theta is computed from
        "cudnn_conv_algo_search": "HEURISTIC",  # an exhaustive search chooses by timing: other bits every run
        "arena_extend_strategy": "kSameAsRequested",  # leaves memory to theta
    }
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]


def _ports(values: Sequence[Any]) -> tuple[Port, ...]:
    ports = []
    for value in values:
        kind = (
            value.type.removeprefix("tensor(").removesuffix(")") if value.type.startswith("tensor(") else ""
        )
        shape = tuple(size if isinstance(size, int) else None for size in value.shape or ())
        ports.append(Port(value.name, _DTYPES.get(kind), shape))
    return tuple(ports)


def _location(array: Any) -> tuple[Any, ...]:
    """Device, its number, dtype, shape and address of a NumPy or CuPy array, as I/O bindings take them."""
    if isinstance(array, np.ndarray):
        return "cpu", 0, array.dtype, array.shape, array.ctypes.data
    return "cuda", array.device.id, array.dtype, array.shape, array.data.ptr


def _write(array: Any, values: np.ndarray) -> None:
    """Write NumPy's values into a NumPy or CuPy array."""
    if isinstance(array, np.ndarray):
        array[...] = values
    else:
        array.set(values)


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."
