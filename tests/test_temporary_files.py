"""Unfinished work is collected when its process is gone, and never while it lives."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from onnxtweak.temporary_files import (
    Change,
    collect,
    second_name,
    temporary_file,
    temporary_folder,
    together,
    try_lock,
)

HOLD = """
import sys, time
from pathlib import Path
from onnxtweak.temporary_files import temporary_file, temporary_folder
folder = Path(sys.argv[1])
with temporary_file(folder, ".onnx") as (path, file), temporary_folder(folder) as other:
    file.write(b"half")
    (other / "inside").write_text("half")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds a temporary file and a folder in `tmp_path`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_what_a_living_process_holds_stays(tmp_path, holder):
    before = sorted(path.name for path in tmp_path.iterdir())
    collect(tmp_path)
    with temporary_file(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == before and len(before) == 2


def test_what_a_killed_process_left_is_collected(tmp_path, holder):
    (tmp_path / ".onnxtweak-mine").write_text("not one of those")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert len(list(tmp_path.iterdir())) == 3
    with temporary_folder(tmp_path):
        assert len(list(tmp_path.iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == [".onnxtweak-mine"]


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / ".onnxtweak-000000000000.part").symlink_to(tmp_path / "kept")
    os.mkfifo(tmp_path / "in" / ".onnxtweak-000000000001.part")
    collect(tmp_path / "in")
    assert (tmp_path / "kept" / "file").exists()


def test_many_at_once_lose_nothing(tmp_path):
    def make(number):
        for _ in range(40):
            with temporary_file(tmp_path) as (path, file):
                file.write(b"whole")
                os.replace(path, tmp_path / f"{number}")
            assert (tmp_path / f"{number}").read_bytes() == b"whole"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(8)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(k) for k in range(8)]


def test_names_and_permissions(tmp_path):
    with temporary_file(tmp_path, ".onnx") as (path, _), temporary_folder(tmp_path, private=True) as folder:
        assert path.suffix == ".onnx" and path.name.startswith(".")
        assert folder.stat().st_mode & 0o077 == 0
    with temporary_file(tmp_path, "." + "x" * 300):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_second_name_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "old"
    path.write_bytes(b"old")
    for links in (True, False):
        if not links:

            def refuse(*arguments, **options):
                raise PermissionError

            monkeypatch.setattr("onnxtweak.temporary_files.os.link", refuse)
        with second_name(path) as second:
            os.replace(second, tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == b"old"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["again", "old"]


def test_one_process_holds_a_folder(tmp_path):
    number = try_lock(tmp_path)
    assert number is not None and try_lock(tmp_path) is None
    os.close(number)
    again = try_lock(tmp_path)
    assert again is not None
    os.close(again)


@pytest.mark.parametrize("before", ["open", "flock"])
def test_what_is_collected_before_it_is_held_is_made_again(tmp_path, monkeypatch, before):
    """Another process collects at the worst moment: the name is there, and nobody holds it yet."""
    if before == "flock":
        module, real = "onnxtweak.temporary_files.fcntl.flock", fcntl.flock
    else:
        module, real = "onnxtweak.temporary_files.os.open", os.open
    lost = []

    def late(*arguments, **options):
        if not lost:
            for path in tmp_path.glob(".onnxtweak-*"):
                lost.append(path)
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return real(*arguments, **options)

    (tmp_path / "old").write_bytes(b"old")
    for make in (temporary_folder, temporary_file, second_name):
        lost.clear()
        monkeypatch.setattr(module, late)
        with make(tmp_path / "old" if make is second_name else tmp_path) as made:
            monkeypatch.undo()
            path = made[0] if make is temporary_file else made
            assert path.exists() and path not in lost
            assert bool(lost) == (before == "flock" or make is not temporary_file)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


TOGETHER = """
import os, sys, time
from pathlib import Path
from onnxtweak.temporary_files import Change, second_name, temporary_file, temporary_folder, together
folder = Path(sys.argv[1])
with (
    temporary_file(folder) as (new, file), second_name(folder / "old") as earlier,
    temporary_folder(folder) as aside,
):
    file.write(b"new")
    (aside / "made").mkdir()
    tables = Change(folder / "tables", aside / "made", aside / "earlier")
    with together([Change(folder / "first", new), Change(folder / "old", new, earlier), tables]):
        os.link(new, folder / "first")
        os.replace(new, folder / "old")
        os.replace(folder / "tables", aside / "earlier")
        if sys.argv[2] == "later":
            os.replace(aside / "made", folder / "tables")
        print("halfway", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("when", ["sooner", "later"])
def test_what_was_delivered_by_half_is_taken_back(tmp_path, when):
    """A file that is new, one in place of an earlier, and a folder in place of an earlier, or of none yet."""
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "V").write_bytes(b"old")
    command = [sys.executable, "-c", TOGETHER, str(tmp_path), when]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"halfway\n"
        collect(tmp_path)  # it lives
        assert (tmp_path / "old").read_bytes() == b"new" and (tmp_path / "first").exists()
        process.kill()
    collect(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "tables"]
    assert (tmp_path / "old").read_bytes() == b"old" and (tmp_path / "tables" / "V").read_bytes() == b"old"


def test_what_others_have_written_since_is_not_taken_back(tmp_path):
    (tmp_path / "new").write_bytes(b"new")
    with together(
        [Change(tmp_path / "first", tmp_path / "new"), Change(tmp_path / "other", tmp_path / "new")]
    ):
        (kept,) = tmp_path.glob(".onnxtweak-*")
        data = kept.read_bytes()
    left = tmp_path / ".onnxtweak-000000000000.part.undo"
    (tmp_path / "first").write_bytes(b"mine")
    for content in (data, data[:-9], b"", b"7", b'[["a"]]', b"\xff"):
        left.write_bytes(content)
        collect(tmp_path)
        assert not left.exists() and (tmp_path / "first").read_bytes() == b"mine"


LATE = """
import os, signal, sys
from pathlib import Path
from onnxtweak.temporary_files import temporary_file, temporary_folder
sent = []
def heard(event, given):
    if event == sys.argv[2] and not sent:
        sent.append(event)
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(heard)
make = temporary_folder if "dir" in sys.argv[2] or "rmtree" in sys.argv[2] else temporary_file
with make(Path(sys.argv[1])):
    pass
"""


@pytest.mark.parametrize("event", ["os.remove", "os.rmdir", "shutil.rmtree", "os.mkdir"])
def test_a_signal_while_it_is_deleted_leaves_nothing(tmp_path, event):
    command = [sys.executable, "-c", LATE, str(tmp_path), event]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert "KeyboardInterrupt" in ended.stderr
    assert not list(tmp_path.iterdir())


FEW_FILES = """
import os, resource, sys
from pathlib import Path
from onnxtweak.temporary_files import temporary_folder
with temporary_folder(Path(sys.argv[1])) as folder:
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "deep" / "deeper" / "a").write_text("a")
    (folder / "link").symlink_to("/")
    least = os.open("/dev/null", os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (least + 1, least + 1))
"""


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_a_folder_is_deleted_where_hardly_a_file_can_be_opened(tmp_path):
    """With one descriptor that is free, next to the one that held the folder."""
    ended = subprocess.run([sys.executable, "-c", FEW_FILES, str(tmp_path)], capture_output=True)
    assert ended.returncode == 0, ended.stderr
    assert list(tmp_path.iterdir()) == []
