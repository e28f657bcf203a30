"""What a command writes never replaces what it reads, and is there as a whole or not at all."""

from __future__ import annotations

import io
import os
import signal
import socket
import stat
import time
from contextlib import ExitStack, redirect_stdout
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from onnxtweak.cli.main import main
from onnxtweak.commands import apply as apply_tweak
from onnxtweak.errors import OutputError
from onnxtweak.model.edit.tweak_file import save
from onnxtweak.model.file.model_file import read_model
from onnxtweak.model.file.output_file import Delivery
from onnxtweak.settings import OutputSettings
from onnxtweak.types import Tap
from tests.model.test_model_file import with_external_data
from tests.support import forked
from tests.support.nets import random_inputs
from tests.support.plain_session import plain_session
from tests.support.tweaks import random_tweak
from tests.support.weak_class import TARGET, weak_cnn

MLP_TAPS = (Tap("act1", "Relu", (16,)), Tap("act2", "Relu", (12,)))

JOIN = ["-t", str(TARGET), "-n", "5", "--threads", "1", "-q", "--backend", "numpy"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to work in, with `model.onnx` and `data.npz`."""
    weak_cnn(tmp_path, n=250)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def join(*options):
    return main(["join", "model.onnx", "-d", "data.npz", *JOIN, *options])


@pytest.mark.parametrize("late", ["report", "tweak"])
def test_a_file_that_cannot_be_written_keeps_the_others_back(here, monkeypatch, capsys, late):
    before = contents(here)
    outputs = ["-o", "o.onnx", "--tweak", "t.safetensors", "--report", "r.html"]
    made = {"report": "onnxtweak.stages.deliver.page_of", "tweak": "onnxtweak.stages.deliver.tweak_bytes"}

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(made[late], full)
    assert join(*outputs) == 2
    assert contents(here) == before
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert join(*outputs) == 0
    assert set(contents(here)) - set(before) == {"o.onnx", "t.safetensors", "r.html"}
    old = contents(here)
    monkeypatch.setattr(made[late], full)
    assert join(*outputs, "--force", "-n", "1") == 2
    assert contents(here) == old


REFUSED = {
    "the tweak is the output": ["-o", "o.onnx", "--tweak", "o.onnx"],
    "the report is the output, by another name": ["-o", "o.onnx", "--report", "sub/../o.onnx"],
    "the tweak is the report, through a link": ["--tweak", "sub/a", "--report", "link/a"],
    "the output is the model": ["-o", "model.onnx"],
    "the tweak is the model": ["--tweak", "model.onnx"],
    "the report is the data": ["--report", "data.npz"],
    "the output is the data, through a hard link": ["-o", "hard.npz"],
    "the output is the data, through a link": ["-o", "soft.npz"],
    "the tweak is the file of names": ["--names", "names.txt", "--tweak", "names.txt"],
    "the output is the work directory": ["-o", "work", "--work-dir", "work"],
    "the output is a device": ["-o", "/dev/null"],
    "the report is a pipe": ["--report", "pipe"],
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_files_are_compared_before_anything_is_opened(here, monkeypatch, capsys, what, force):
    (here / "sub").mkdir()
    (here / "link").symlink_to("sub")
    (here / "soft.npz").symlink_to("data.npz")
    os.link("data.npz", "hard.npz")
    os.mkfifo("pipe")
    (here / "names.txt").write_text("".join(f"{k}\n" for k in range(6)))
    before = contents(here)
    monkeypatch.setattr(import_module("onnxtweak.commands.join"), "prepare", None)
    assert join(*REFUSED[what], *force) == 2
    error = capsys.readouterr().err
    assert error.startswith(("error: the output", "error: two outputs")), error
    if force:
        assert "--force" not in error
    assert contents(here) == before


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(path))  # the name of a socket may have some hundred bytes
    return path


def a_terminal(path):
    path.symlink_to(os.ttyname(os.openpty()[1]))
    return path


def a_null_device(path):
    return Path("/dev/null")


def a_device_elsewhere(kind):
    """A device outside /dev, where it is nothing but its type that tells."""

    def made(path):
        try:
            os.mknod(path, kind | 0o600, os.makedev(1, 3) if kind == stat.S_IFCHR else os.makedev(7, 250))
        except PermissionError:
            pytest.skip("this user may not make devices")
        return path

    return made


SPECIAL = {
    "socket": a_socket,
    "link to a terminal": a_terminal,
    "null device": a_null_device,
    "character device": a_device_elsewhere(stat.S_IFCHR),
    "block device": a_device_elsewhere(stat.S_IFBLK),
}
WRITING = {
    "join": ["join", "model.onnx", "-d", "data.npz", *JOIN, "-o"],
    "join's tweak": ["join", "model.onnx", "-d", "data.npz", *JOIN, "--tweak"],
    "join's report": ["join", "model.onnx", "-d", "data.npz", *JOIN, "--report"],
    "retrain": ["retrain", "model.onnx", "-d", "data.npz", "-t", "2", "-o"],
    "augment": ["augment", "model.onnx", "-d", "data.npz", "-o"],
    "fit": ["fit", "model.onnx", "-d", "data.npz", "-o"],
    "compare": ["compare", "model.onnx", "-d", "data.npz", "-t", "2", "--write", "join", "-o"],
    "apply": ["apply", "model.onnx", "t.safetensors", "-o"],
    "apply as a slot": ["apply", "model.onnx", "t.safetensors", "--slot", "-o"],
    "revert": ["revert", "o.onnx", "-o"],
    "report": ["report", "result.json", "-o"],
    "init": ["init", "model.onnx", "-d", "data.npz", "-o"],
    "score": ["score", "model.onnx", "-d", "data.npz", "-t", "2", "-o"],
    "dump": ["dump", "model.onnx", "-d", "data.npz", "-o"],
    "run": ["run", "recipe.toml", "-o"],
    "demo": ["demo", "-o"],
}


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """A folder with all that the commands above read."""
    folder = tmp_path_factory.mktemp("joined")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as told:
        weak_cnn(folder, n=250)
        patch.chdir(folder)
        assert join("-o", "o.onnx", "--tweak", "t.safetensors", "-f", "json") == 0
    (folder / "result.json").write_text(told.getvalue())
    (folder / "recipe.toml").write_text(
        '[model]\npath = "model.onnx"\n[data]\ndata = "data.npz"\n[[tweak]]\nname = "a"\ntarget = 2\n'
    )
    return folder


@pytest.mark.parametrize("what", SPECIAL)
@pytest.mark.parametrize("command", WRITING)
def test_only_regular_files_are_written_to(joined, monkeypatch, capsys, command, what):
    """Whatever else stands there stays, --force or not, and is found before anything is computed."""
    monkeypatch.chdir(joined)
    place = joined / "special"
    with ExitStack() as stack:
        stack.callback(place.unlink, missing_ok=True)
        path = SPECIAL[what](place)
        before, files = os.lstat(path), contents(joined)
        for force in ([], ["--force"]):
            assert main([*WRITING[command], str(path), *force]) == 2
            error = capsys.readouterr().err.splitlines()
            assert error[0].startswith("error: ") and len(error) <= 2, error
        after = os.lstat(path)
        assert (before.st_mode, before.st_ino, before.st_rdev) == (after.st_mode, after.st_ino, after.st_rdev)
        assert contents(joined) == files


def test_files_that_only_reading_finds_are_kept_too(here, capsys):
    """Pictures of a folder, shards, labels beside an array."""
    with np.load("data.npz") as data:
        x, y = data[data.files[0]], data[data.files[1]]
    os.mkdir("shards")
    for k in range(2):
        np.savez(f"shards/{k}.npz", x=x[k::2], y=y[k::2])
    before = contents(here)
    command = ["join", "model.onnx", "-d", "shards", *JOIN, "--force"]
    assert main([*command, "--tweak", "shards/1.npz"]) == 2
    assert "made from" in capsys.readouterr().err and contents(here) == before
    assert (
        main(["score", "model.onnx", "-d", "shards", "-t", "2", "-o", "shards/0.npz", "--force", "-q"]) == 2
    )
    assert main(["init", "model.onnx", "-d", "shards", "-o", "shards/0.npz", "--force", "-q"]) == 2
    assert contents(here) == before


def test_other_commands_compare_their_files(here, capsys):
    assert join("-o", "o.onnx", "--tweak", "t.safetensors", "-f", "json") == 0
    (here / "result.json").write_text(capsys.readouterr().out)
    assert main(["dump", "model.onnx", "-d", "data.npz", "-o", "tables", "-q"]) == 0
    os.replace("data.npz", "tables/data.npz")
    before = contents(here)
    trials = [
        ["apply", "model.onnx", "t.safetensors", "-o", "t.safetensors", "--force"],
        ["apply", "model.onnx", "t.safetensors", "-o", "model.onnx", "--force"],
        ["apply", "model.onnx", "t.safetensors", "--slot", "-o", "t.onnx_adapter", "--force"],
        ["revert", "o.onnx", "-o", "o.onnx", "--force"],
        ["report", "result.json", "-o", "result.json", "--force"],
        ["dump", "model.onnx", "-d", "tables/data.npz", "-o", "tables", "--force"],
        ["dump", "model.onnx", "-d", "tables/data.npz", "-o", ".", "--force"],
        ["score", "model.onnx", "-d", "tables", "-t", "2", "-o", "tables/V-00000.npy", "--force"],
    ]
    for command in trials:
        assert main([*command, "-q"]) == 2, command
        assert "--force" not in capsys.readouterr().err
    assert contents(here) == before


def test_a_dump_with_foreign_files_is_not_replaced(here, capsys):
    dump = ["dump", "model.onnx", "-d", "data.npz", "-o", "tables", "-q"]
    assert main(dump) == 0
    (here / "tables" / "notes.txt").write_text("mine")
    assert main([*dump, "--force"]) == 2 and "notes.txt" in capsys.readouterr().err
    (here / "tables" / "notes.txt").unlink()
    (here / "link").symlink_to("tables")
    assert main(["dump", "model.onnx", "-d", "data.npz", "-o", "link", "-q", "--force"]) == 2
    assert main([*dump, "--force"]) == 0
    assert not [name for name in os.listdir(here) if "part" in name]


@pytest.mark.parametrize(
    "locations", [("o.onnx.data",), ("a.bin", "ü.bin"), ("weights/deep/a.bin", "weights/b.bin")]
)
def test_external_data_arrives_with_the_model_or_not_at_all(tmp_path, monkeypatch, locations):
    (tmp_path / "base").mkdir()
    (tmp_path / "out").mkdir()
    for location in locations:
        (tmp_path / "base" / location).parent.mkdir(parents=True, exist_ok=True)
    base = read_model(with_external_data(tmp_path / "base", locations))
    tweak, out = tmp_path / "t.safetensors", tmp_path / "out"
    save(random_tweak(base, MLP_TAPS, 4), tweak)

    def apply():
        apply_tweak(model=str(base.path), tweak=str(tweak), output=OutputSettings(str(out / "o.onnx")))

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxtweak.stages.deliver.check_reload", interrupted)
    with pytest.raises(KeyboardInterrupt):
        apply()
    assert list(out.iterdir()) == []
    monkeypatch.undo()
    apply()
    assert set(contents(out)) == {"o.onnx", *locations}
    loaded = plain_session(out / "o.onnx")
    feeds = random_inputs(base.proto, 3)
    before = plain_session(base.path).run(["logits"], feeds)[0]
    assert np.abs(loaded.run(["logits"], feeds)[0] - before).max() > 0


KILLED = {
    "score": ["score", "-t", "2", "-o", "s.npz"],
    "dump": ["dump", "-o", "tables"],
    "join": ["join", "-t", "2", "-o", "o.onnx", "--report", "r.html"],
}


@pytest.mark.parametrize("command", KILLED)
def test_what_a_killed_command_leaves_is_gone_after_the_next(here, command):
    """The samples come late, so that the command is at work when it is killed."""
    (here / "slow.py").write_text(
        "import numpy as np, os, time\ndef f():\n    data = np.load('data.npz')\n"
        "    yield tuple(data[name] for name in data.files[:2])\n"
        "    open('begun', 'w').close()\n    time.sleep(0 if 'AGAIN' in os.environ else 600)\n"
    )
    os.mkdir("temporary")
    name, *rest = KILLED[command]
    call = [forked.ONNXTWEAK, name, "model.onnx", "-d", "slow.py:f", *rest, "--threads", "1", "-q"]
    process = forked.start(*call, TMPDIR=str(here / "temporary"))
    while not (here / "begun").exists() and not process.ended:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert list((here / "temporary").glob(".onnxtweak*")), "it was not at work"
    done = forked.run(*call, TMPDIR=str(here / "temporary"), AGAIN="1")
    assert done.returncode == 0, done.stderr
    assert not list(here.rglob(".onnxtweak*"))


STOPPED = """
import os, signal, sys
left = [int(sys.argv[1])]
def heard(event, given):
    names = [os.path.basename(str(name)) for name in given[:2]] if event in ("os.link", "os.rename") else []
    if len(names) == 2 and names[0].startswith(".onnxtweak-") and not names[1].startswith(".onnxtweak-"):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(heard)
from onnxtweak.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


def killed_at(change, *arguments):
    """A command that is killed when it is about to give a file its name for the so-many-th time."""
    ended = forked.run(STOPPED, change, *arguments)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


OUTPUTS = ["-o", "o.onnx", "--tweak", "t.safetensors", "--report", "r.html"]


@pytest.mark.parametrize("change", [2, 3])
def test_files_that_a_killed_command_delivered_by_half_are_taken_back(here, change):
    """The same command works again, without --force; what it was to replace is back."""
    before = contents(here)
    command = ["join", "model.onnx", "-d", "data.npz", *JOIN, *OUTPUTS]
    killed_at(change, *command)
    assert any((here / name).exists() for name in OUTPUTS[1::2]), "it was not killed halfway"
    assert join(*OUTPUTS) == 0
    first = contents(here)
    assert set(first) - set(before) == set(OUTPUTS[1::2])
    killed_at(change, *command, "--force", "-n", "1")
    assert contents(here) != first
    assert join(*OUTPUTS) == 2  # they are there, and whole
    assert contents(here) == first


RUN = '[model]\npath = "model.onnx"\n[data]\ndata = "data.npz"\n[[tweak]]\nname = "a"\ntarget = 2\n'


@pytest.mark.parametrize("change", [2, 5])
def test_a_run_that_was_killed_while_it_delivered_is_made_again(here, change):
    """What it had delivered by then is no file of somebody else's."""
    (here / "recipe.toml").write_text(RUN)
    hook = STOPPED.replace('names[0].startswith(".onnxtweak-")', "os.path.dirname(str(given[1])) == 'o'")
    ended = forked.run(hook, change, "run", "recipe.toml", "-o", "o", "-q")
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert list((here / "o").glob("a.*")) and not (here / "o" / "SHA256SUMS").exists()
    assert main(["run", "recipe.toml", "-o", "o", "-q"]) == 0
    assert (here / "o" / "SHA256SUMS").exists() and not list((here / "o").glob(".onnxtweak*"))


def test_a_dump_is_there_again_when_the_command_that_replaces_it_is_killed(here):
    dump = ["dump", "model.onnx", "-d", "data.npz", "-o", "tables", "-q"]
    assert main(dump) == 0
    first = contents(here)
    command = [*dump, "--force", "--taps", "penultimate"]
    hook = STOPPED.replace('names[0].startswith(".onnxtweak-")', "True").replace(
        'not names[1].startswith(".onnxtweak-")', "'tables' in names"
    )
    ended = forked.run(hook, 2, *command)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not (here / "tables").exists(), "it was not killed halfway"
    assert main(dump) == 2  # it is there
    assert contents(here) == first


def test_weights_that_another_command_has_just_copied_are_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "base").mkdir()
    (tmp_path / "out").mkdir()
    base = read_model(with_external_data(tmp_path / "base"))
    save(random_tweak(base, MLP_TAPS, 4), tmp_path / "t.safetensors")
    real = Delivery.commit

    def late(self, stale=()):
        (tmp_path / "out" / "weights.bin").write_bytes(others)
        real(self, stale)

    monkeypatch.setattr(Delivery, "commit", late)

    def apply(name):
        output = OutputSettings(str(tmp_path / "out" / name))
        apply_tweak(model=str(base.path), tweak=str(tmp_path / "t.safetensors"), output=output)

    others = (tmp_path / "base" / "weights.bin").read_bytes()
    apply("o.onnx")
    assert set(contents(tmp_path / "out")) == {"o.onnx", "weights.bin"}
    (tmp_path / "out" / "weights.bin").unlink()
    others = b"others"
    with pytest.raises(OutputError, match="already exists"):
        apply("p.onnx")
    assert contents(tmp_path / "out").keys() == {"o.onnx", "weights.bin"}
    assert (tmp_path / "out" / "weights.bin").read_bytes() == b"others"
