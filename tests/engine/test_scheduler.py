"""A Dask scheduler that is none, is written wrongly or never answers: one line within a bounded time."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from onnxtweak.cli.main import main
from onnxtweak.engine.workers import dask_cluster, open_files
from onnxtweak.engine.workers.processes import open_workers
from onnxtweak.errors import MachineError
from onnxtweak.settings import EngineSettings
from tests.support import forked
from tests.support.weak_class import weak_cnn

distributed = pytest.importorskip("distributed")

# A program that waits no longer than it has to for workers that will not come.
IMPATIENT = (
    "from onnxtweak.engine.workers import dask_cluster;"
    f"dask_cluster._LOOK = dask_cluster._ALONE = 0.3;{forked.ONNXTWEAK}"
)


@pytest.mark.parametrize("address", ["x", "tcp://", "127.0.0.1", "foo://127.0.0.1:5"])
def test_what_is_no_address_is_said(address):
    with (
        pytest.raises(MachineError, match="not the address of a Dask scheduler") as caught,
        open_workers(EngineSettings(scheduler=address)),
    ):
        pass
    assert caught.value.hint == "write it like tcp://HOST:8786"


@pytest.mark.filterwarnings("ignore")  # of threads that wait for an answer
@pytest.mark.parametrize(("answer", "within"), [(b"", 0.2), (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3, 1)])
def test_what_never_answers_or_is_no_dask_is_given_up(answer, within, monkeypatch):
    monkeypatch.setattr(dask_cluster, "_ANSWER", within)
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
        with pytest.raises(MachineError, match="does not answer"), open_workers(settings):
            pass
        assert time.monotonic() - began < 300
    for connection in kept:
        connection.close()


@pytest.mark.parametrize("lost", ["scheduler", "worker"])
def test_a_scheduler_or_its_only_worker_that_dies_midway_is_one_line(tmp_path, lost):
    model, data = weak_cnn(tmp_path, n=60)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    port, one = address.rpartition(":")[2], ("--nworkers", "1", "--nthreads", "1", "--no-nanny")
    running = {"scheduler": forked.dask("scheduler", "--host", "127.0.0.1", "--port", port, cwd=tmp_path)}
    running["worker"] = forked.dask("worker", address, *one, cwd=tmp_path)
    out = tmp_path / "scores.npz"
    command = ["score", str(model), "-d", str(data), "-t", "1", "--scheduler", address, "-o", str(out)]
    try:
        with dask_cluster.undisturbed():
            client = distributed.Client(address, timeout="300s", set_as_default=False)
        with client:
            client.wait_for_workers(1, timeout=300)
            os.kill(running["worker"].pid, signal.SIGSTOP)  # which takes the shards, and never ends one
            begun = forked.start(IMPATIENT, *command)
            while not client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
                assert not begun.ended, begun.wait()
                time.sleep(0.02)
            running[lost].kill()
            ended = begun.wait()
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    assert ended.returncode == 4, ended.stderr
    assert "were lost" in ended.stderr and "Traceback" not in ended.stderr
    assert not out.exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("most", "enough"), [(16, False), (79, False), (95, False), (96, True), (-1, True)])
def test_workers_are_not_started_with_few_files(monkeypatch, most, enough):
    """Dask would wait for itself."""
    monkeypatch.setattr(open_files.resource, "getrlimit", lambda kind: (most, most))
    with (
        contextlib.nullcontext()
        if enough
        else pytest.raises(MachineError, match=f"need 96 open files, of which {most} ")
    ):
        open_files.require_files(2)


def test_few_files_end_a_command_at_once(tmp_path, monkeypatch, capsys):
    weak_cnn(tmp_path, n=60)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(open_files.resource, "getrlimit", lambda kind: (16, 16))
    score = ["score", "model.onnx", "-d", "data.npz", "-t", "2", "--workers", "1", "-o", "s.npz", "-q"]
    assert main(score) == 4
    assert "error: 1 worker processes need 80 open files" in capsys.readouterr().err
    assert not list(tmp_path.glob(".onnxtweak*"))


def test_what_does_not_answer_leaves_no_client_behind(monkeypatch):
    """It would be closed whenever garbage is collected, for which it needs a lock of Dask."""
    made = []
    monkeypatch.setattr(dask_cluster, "_ANSWER", 0.2)
    monkeypatch.setattr(dask_cluster.distributed, "Client", lambda *_, **__: made.append("a client"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = EngineSettings(scheduler=f"tcp://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(MachineError, match="does not answer"), open_workers(settings):
            pass
    assert not made


def test_no_garbage_is_collected_while_dask_starts():
    class Forgotten:
        def __init__(self):
            self.itself = self

        def __del__(self):
            closed.append(gc.isenabled())

    closed = []
    Forgotten()
    with dask_cluster.undisturbed():
        assert closed == [True] and not gc.isenabled()
        Forgotten()
    assert gc.isenabled()
    gc.collect()
    assert closed == [True, True]


class _Late:
    """A Dask future whose call ends just after the first wait for it did."""

    def __init__(self, ends_as: str, error: Exception | None = None) -> None:
        self.status, self.ends_as, self.error = "pending", ends_as, error

    def result(self, timeout: float | None = None) -> str:
        if self.status == "pending":
            self.status = self.ends_as
            raise TimeoutError("timed out after 2 s.")
        if self.error is not None:
            raise self.error
        return "the sums"


def test_a_call_that_ends_just_after_the_wait_for_it_is_no_timeout():
    client = SimpleNamespace(nthreads=lambda: {"a worker": 1})
    workers = dask_cluster.DaskWorkers(client, 1)
    assert workers.result(_Late("finished")) == "the sums"
    late = _Late("error", TimeoutError("its own"))
    with pytest.raises(TimeoutError, match="its own"):
        workers.result(late)
