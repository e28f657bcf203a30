"""Where does a package with a trained net come from? From pip: a wheel that is opened, not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def wheel(requirement: str, cache: Path) -> Path:
    """The wheel of `NAME==VERSION`, downloaded once."""
    folder = cache / "wheels"
    pattern = requirement.replace("==", "-") + "-*.whl"
    if not any(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*command, "--dest", str(folder), requirement], check=True)
    return next(folder.glob(pattern))
