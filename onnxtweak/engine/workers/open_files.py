"""May this process open as many files as its worker processes need?"""

from __future__ import annotations

from onnxtweak.errors import MachineError

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

# What Dask opens on this machine, and for each worker; with fewer it waits for itself without end.
_FILES, _FILES_EACH = 64, 16


def require_files(processes: int) -> None:
    """Raise MachineError where the limit on open files is too low for so many worker processes."""
    needed = _FILES + _FILES_EACH * processes
    most = needed if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= most < needed:  # less than 0: no limit
        raise MachineError(
            f"{processes} worker processes need {needed} open files, of which {most} are allowed",
            where="--workers",
            hint=f"raise the limit (`ulimit -n {needed}`), or leave --workers out",
        )
