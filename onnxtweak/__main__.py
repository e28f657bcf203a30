"""`python -m onnxtweak` is the same program as `onnxtweak`."""

import sys

from onnxtweak.cli.start import main

if __name__ == "__main__":
    sys.exit(main())
