"""A Dask scheduler that is none, is written wrongly or never answers: one line within a bounded time."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from onnxtweak.engine.scoring import workers
from onnxtweak.errors import MachineError
from onnxtweak.settings import EngineSettings

pytest.importorskip("distributed")


@pytest.mark.parametrize("address", ["x", "tcp://", "127.0.0.1", "foo://127.0.0.1:5"])
def test_what_is_no_address_is_said(address):
    with (
        pytest.raises(MachineError, match="not the address of a Dask scheduler") as caught,
        workers.open_workers(EngineSettings(scheduler=address)),
    ):
        pass
    assert caught.value.hint == "write it like tcp://HOST:8786"


@pytest.mark.filterwarnings("ignore")  # of threads that wait for an answer
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3])
def test_what_never_answers_or_is_no_dask_is_given_up(answer, monkeypatch):
    monkeypatch.setattr(workers, "_ANSWER", 1)
    kept = []

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            kept.append(connection)
            if answer:
                connection.sendall(answer)
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        began = time.monotonic()
        settings = EngineSettings(scheduler=f"tcp://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(MachineError, match="does not answer"), workers.open_workers(settings):
            pass
        assert time.monotonic() - began < 10
    for connection in kept:
        connection.close()
