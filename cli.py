"""Launcher for a checkout: `python cli.py` is the same program as `onnxtweak`."""

import sys

from onnxtweak.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
