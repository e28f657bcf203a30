"""`onnxtweak doctor`: what works on this machine?"""

from __future__ import annotations

import time

from onnxtweak.cli.console import Console
from onnxtweak.cli.options.groups import command
from onnxtweak.cli.options.shared import reporting_options
from onnxtweak.cli.output import close, show
from onnxtweak.errors import MachineError


@command("doctor", "onnxtweak doctor")
@reporting_options
def doctor(console: Console, form: str) -> None:
    """Check what works on this machine, and how to fix the rest.

    Finds two ONNX Runtime packages that overwrite each other, a GPU that is there but not used, CUDA
    libraries that do not match, and kernels that do not compile. Models and kernels are really run, each in a
    process of its own. Ends with exit code 4 if there is a problem.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import inspection

    began = time.perf_counter()
    found = commands.doctor()
    show(console, "doctor", found, inspection.diagnosis, form)
    if found.problems:
        names = ", ".join(finding.name for finding in found.problems)
        raise MachineError(f"does not work: {names}", hint=found.problems[0].hint)
    close(console, began, "everything that is needed works")
