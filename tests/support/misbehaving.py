"""What does a command look like that breaks a promise? This one breaks the one that it is told to.

    python misbehaving.py HOW ONE OTHER

It reads `model.onnx`, and writes ONE and OTHER, as a command with two outputs does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(how: str, one: str, other: str) -> int:
    Path("model.onnx").read_bytes()
    if how == "ends with 70":
        return told("unexpected ValueError: no", 70)
    if how == "ends with 5":
        return told("no", 5)
    if how == "shows a traceback":
        raise ValueError
    if how == "aborts":
        os.kill(os.getpid(), signal.SIGABRT)
    if how == "hangs":
        time.sleep(600)
    if how == "takes memory":
        held = bytearray(1 << 30)
        held[::4096] = bytes(1 << 18)
    if how == "says nothing":
        return 2
    if how == "says it twice":
        told("no", 2)
        return told("no", 2)
    if how == "leaves a process":
        subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    if how == "leaves a temporary file":
        Path(os.environ["TMPDIR"], "tmp").touch()
    if how == "leaves a file beside its outputs":
        Path("notes").touch()
    if how == "leaves unfinished work":
        Path(".onnxtweak-0123456789ab.part").touch()
    if how == "changes its input":
        Path("model.onnx").write_bytes(b"")
    if how == "deletes its input":
        Path("model.onnx").unlink()
    if how == "delivers nothing":
        return 0
    Path(one).write_text("other" if how == "writes other bytes" else "right")
    if how == "delivers half":
        return 0
    Path(other).write_text("right")
    if how == "tells something else":
        sys.stdout.write("?\n")
    return told("no", 2) if how == "fails but delivers" else 0


def told(what: str, code: int) -> int:
    sys.stderr.write(f"error: {what}\nhint: none\n")
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
