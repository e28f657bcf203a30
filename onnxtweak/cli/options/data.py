"""Which options say where samples come from, and what is done to them before the model sees them?"""

from __future__ import annotations

import functools
from collections.abc import Callable

import click

from onnxtweak import settings
from onnxtweak.cli.options.groups import gathered, option
from onnxtweak.cli.options.values import HeightWidth, Number, Numbers

_data = functools.partial(option, "Data")
_preprocess = functools.partial(option, "Preprocessing")


def _make_data(data, val, test, names, seed, mean, std, **preprocess) -> settings.DataSettings:
    return settings.DataSettings(
        data=data,
        val=val,
        test=test,
        names=names,
        seed=settings.DataSettings.seed if seed is None else seed,
        preprocess=settings.Preprocess(mean=mean, std=std, **preprocess),
    )


def _source(also: str = "", *, required: bool = True) -> Callable:
    return _data(
        "-d",
        "--data",
        multiple=True,
        required=required,
        metavar="PATH[#KEY[start:stop]]",
        help="Labelled samples: an .npz file (inputs under their tensor names or `x`, labels under `y` or "
        "`labels`), x.npy with y.npy beside it, a folder of such shards, a folder of images class/*.png, "
        "a .csv of path,label, a .parquet, or FILE.py:FUNCTION that yields batches"
        f"{also}. #KEY picks x_KEY and y_KEY, [start:stop] some of the rows. Repeatable.",
    )


_NAMES = _data("--names", metavar="FILE", help="Class names, one a line, in the order of the class numbers.")
_PREPROCESSING = (
    _preprocess("--resize", type=HeightWidth(), metavar="HxW", help="Resize images first."),
    _preprocess("--crop", type=HeightWidth(), metavar="HxW", help="Then keep this much of the centre."),
    _preprocess("--layout", type=click.Choice(["NCHW", "NHWC"]), help="Axis order that the model wants."),
    _preprocess(
        "--color", type=click.Choice(["RGB", "BGR", "GRAY"]), help="Colour order that the model wants."
    ),
    _preprocess("--pixel-scale", type=Number(above=0), help="Multiply raw values by this, such as 1/255."),
    _preprocess("--mean", type=Numbers(), help="Then subtract this: one number a channel, commas between."),
    _preprocess("--std", type=Numbers(above=0), help="Then divide by this: one number a channel."),
    _preprocess(
        "--dtype", metavar="NAME", help="Type to feed, as NumPy spells it [default: the model's own]."
    ),
)


def samples_options(*, dumps: bool = False) -> Callable:
    """`data`: DataSettings of a command that uses all samples; `dumps` tells of what `dump` wrote."""
    return gathered(
        "data",
        lambda **values: _make_data(val=(), test=(), seed=None, **values),
        _source("; or a folder that `dump` wrote" if dumps else ""),
        _NAMES,
        *_PREPROCESSING,
    )


# `data`: DataSettings, None where no samples are given, for commands that can do without.
later_samples_options = gathered(
    "data",
    lambda data, **values: _make_data(data=data, val=(), test=(), seed=None, **values) if data else None,
    _source(required=False),
    _NAMES,
    *_PREPROCESSING,
)

# `data`: DataSettings, for commands that choose and report.
split_options = gathered(
    "data",
    _make_data,
    _source(),
    _data(
        "--val",
        multiple=True,
        metavar="PATH[#...]",
        help="Samples to choose settings on [default: a stratified part of the data]. Repeatable.",
    ),
    _data(
        "--test",
        multiple=True,
        metavar="PATH[#...]",
        help="Samples to report on, used for nothing else "
        "[default: a stratified part of the data]. Repeatable.",
    ),
    _NAMES,
    _data(
        "--seed",
        type=click.IntRange(min=0),
        metavar="N",
        default=settings.DataSettings.seed,
        show_default=True,
        help="Seed of the split, and of all that is drawn at random later.",
    ),
    *_PREPROCESSING,
)
