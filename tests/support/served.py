"""How does a shell script run `onnxtweak` without a second of imports each time? In the test's own process.

What the script finds under that name hands its words and its folder on to the test, which waits for the
script meanwhile, and says what the command says.
"""

from __future__ import annotations

import io
import json
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

from onnxtweak.cli.main import main

_LOOK = 0.05  # seconds between two looks at the script
_PORT = "SERVED_AT"  # the variable that says where the test listens
_CLIENT = f"""
import json, os, socket, sys
there = socket.create_connection(("127.0.0.1", int(os.environ["{_PORT}"])))
with there, there.makefile("rw") as file:
    print(json.dumps([os.getcwd(), sys.argv[1:]]), file=file, flush=True)
    code, out, err = json.loads(file.readline())
print(out, end="", flush=True)
sys.stderr.write(err)
sys.exit(code)
"""
# A command line that stands for `onnxtweak` in a script that `run` runs.
PROGRAM = shlex.join([sys.executable, "-I", "-S", "-c", _CLIENT])


def run(
    words: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A program, to its end, and what it said; `PROGRAM` in it is carried out here."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        tempfile.TemporaryFile("w+", encoding="utf-8") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8") as err,
    ):
        server.settimeout(_LOOK)
        served = {**environment, _PORT: str(server.getsockname()[1])}
        with subprocess.Popen(words, env=served, cwd=folder, stdout=out, stderr=err) as script:
            while script.poll() is None:
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection, connection.makefile("rw") as file:
                    print(json.dumps(_answer(*json.loads(file.readline()))), file=file, flush=True)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(words, script.returncode, out.read(), err.read())


def _answer(folder: str, words: list[str]) -> tuple[int, str, str]:
    """The exit code of a command in a folder, and what it said."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(err):
        code = main(words)
    return code, out.getvalue(), err.getvalue()
