"""Options become the settings that commands get."""

from __future__ import annotations

import pytest

from onnxtweak import settings
from onnxtweak.cli import blas_threads
from onnxtweak.cli.console import QUIET, VERBOSE
from onnxtweak.cli.main import main

JOIN = ["join", "m.onnx", "-d", "a.npz", "-t", "cat", "-o", "out.onnx"]


def test_join_defaults_are_the_settings_defaults(commands):
    assert main(JOIN) == 0
    assert commands.asked[0] == "join"
    asked = commands.settings
    assert asked["model"] == "m.onnx"
    assert asked["data"] == settings.DataSettings(data=("a.npz",))
    assert asked["targets"] == settings.TargetSettings(targets=("cat",))
    assert asked["taps"] == settings.TapSettings()
    assert asked["settings"] == settings.JoinSettings()
    assert asked["engine"] == settings.EngineSettings()
    assert asked["output"] == settings.OutputSettings(output="out.onnx")


def test_join_takes_every_option(commands):
    more = (
        "-d b.npz#train[10:] --val v.npz --test t.npz --test u.npz --names names.txt --seed 3 "
        "--resize 40x50 --crop 32 --layout NHWC --color BGR --pixel-scale 1/255 --mean .5,.25,.1 "
        "--std 1,2,1/2 --dtype float16 -t 7 --taps r* --taps op:Concat --pool mean "
        "--logits z -n 1,10 -n 20 --scale 5 "
        "--max-overall-drop 0.5 --max-class-drop 2 --theta thesis --criterion lift --device cuda:0,1 "
        "--backend numba --memory 500MB --batch 64 --threads 2 --tweak t.safetensors --force -v"
    )
    assert main([*JOIN, *more.split()]) == 0
    asked = commands.settings
    assert asked["data"] == settings.DataSettings(
        data=("a.npz", "b.npz#train[10:]"),
        val=("v.npz",),
        test=("t.npz", "u.npz"),
        names="names.txt",
        seed=3,
        preprocess=settings.Preprocess(
            resize=(40, 50),
            crop=(32, 32),
            layout="NHWC",
            color="BGR",
            pixel_scale=1 / 255,
            mean=(0.5, 0.25, 0.1),
            std=(1.0, 2.0, 0.5),
            dtype="float16",
        ),
    )
    assert asked["targets"] == settings.TargetSettings(targets=("cat", "7"))
    assert asked["taps"] == settings.TapSettings(taps=("r*", "op:Concat"), pool=("mean",), logits="z")
    assert asked["settings"] == settings.JoinSettings(
        count=(1, 10, 20),
        scale=(5.0,),
        max_overall_drop=0.5,
        max_class_drop=2.0,
        theta="thesis",
        criterion="lift",
    )
    assert asked["engine"] == settings.EngineSettings(
        device="cuda:0,1", backend="numba", memory=500_000_000, batch=64, threads=2
    )
    assert asked["output"] == settings.OutputSettings(output="out.onnx", tweak="t.safetensors", force=True)
    assert asked["progress"].verbosity == VERBOSE


def test_exact_scale_and_worst(commands):
    assert main(["join", "m.onnx", "-d", "a.npz", "--worst", "3", "--exact-scale", "-o", "o.onnx", "-q"]) == 0
    assert commands.settings["settings"].exact_scale
    assert commands.settings["targets"] == settings.TargetSettings(worst=3)
    assert commands.settings["progress"].verbosity == QUIET


def test_the_other_commands(commands):
    assert main("inspect m.onnx --taps stages --pool max".split()) == 0
    assert commands.asked == (
        "inspect",
        {
            "model": "m.onnx",
            "data": None,
            "taps": settings.TapSettings(("stages",), ("max",)),
            "engine": settings.EngineSettings(),
        },
    )

    assert main("evaluate m.onnx -d a.npz --logits z --batch 1".split()) == 0
    assert commands.settings["taps"] == settings.TapSettings(logits="z")
    assert commands.settings["engine"] == settings.EngineSettings(batch=1)
    assert commands.settings["targets"] == settings.TargetSettings()

    assert main("apply m.onnx t.safetensors -o o.onnx --scale 1/2".split()) == 0
    assert commands.settings["tweak"] == "t.safetensors"
    assert commands.settings["scale"] == 0.5
    assert commands.settings["output"] == settings.OutputSettings(output="o.onnx")

    assert main("dump m.onnx -d a.npz -o tables --neurons s.npz --force".split()) == 0
    assert commands.settings["directory"] == "tables"
    assert commands.settings["neurons"] == "s.npz"
    assert commands.settings["force"] is True

    assert main("score m.onnx -d a.npz -t 2 --theta thesis --criterion lift -n 7 -o s.npz".split()) == 0
    assert commands.settings["settings"] == settings.JoinSettings((7,), theta="thesis", criterion="lift")

    assert main("demo -o there --device cpu".split()) == 0
    assert commands.settings["directory"] == "there"
    assert commands.settings["force"] is False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*JOIN[:4], "-o", "o.onnx"], "error: no target class\nhint: name one with --target"),
        ([*JOIN, "--worst", "2"], "error: --target and --worst exclude each other\nhint: give one"),
        ([*JOIN, "--exact-scale", "--scale", "3"], "error: --scale and --exact-scale exclude each other\n"),
        ([*JOIN[:2], "-o", "o.onnx"], "error: Missing option '-d' / '--data' (onnxtweak join)\n"),
        (["join"], "error: Missing argument 'MODEL' (onnxtweak join)\nhint: `onnxtweak join --help`"),
        ([*JOIN, "--memory", "lots"], "error: 'lots' is not a size; write it like 4GiB or 500MB (onnxtweak"),
        ([*JOIN, "-n", "0"], "error: 0 is less than 1 (--count)\n"),
        ([*JOIN, "--cuont", "3"], "hint: did you mean --count"),
        (["jion"], "error: No such command 'jion'"),
    ],
)
def test_usage_errors_are_two_lines_and_code_2(commands, capsys, arguments, said):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.startswith("error: ")
    assert err.count("\n") == 2
    assert commands.asked is None


def test_threads_bound_the_arithmetic_too_unless_the_environment_does(commands, monkeypatch):
    found = {"OMP_NUM_THREADS": "7"}
    monkeypatch.setattr(blas_threads.os, "environ", found)
    assert main(JOIN) == 0
    assert found == {"OMP_NUM_THREADS": "7"}
    assert main([*JOIN, "--threads", "2"]) == 0
    assert found["OPENBLAS_NUM_THREADS"] == found["MKL_NUM_THREADS"] == "2"
    assert found["OMP_NUM_THREADS"] == "7"
