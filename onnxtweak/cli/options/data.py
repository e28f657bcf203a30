"""Which options say where samples come from, and how they become the model's input?"""

from __future__ import annotations

import functools
from typing import Any, get_args

import click

from onnxtweak import settings
from onnxtweak.cli.options.groups import Decorator, gathered, option
from onnxtweak.cli.options.values import HeightWidth, NamedNumber, Number, Numbers, Whole

_data = functools.partial(option, "Data")
_preprocess = functools.partial(option, "Preprocessing")


_SPLIT = (
    *("data", "val", "test", "must", "lock", "keep", "names"),
    *("seed", "anyway", "inputs", "group", "by", "alphabet", "blank", "head", "ignore_index", "counted"),
)


def _make_data(**values: Any) -> settings.DataSettings:
    sources = {key: values.pop(key) for key in _SPLIT if key in values}
    return settings.DataSettings(**sources, preprocess=settings.Preprocess(**values))


def _source(also: str = "", *, required: bool = True, labelled: bool = True) -> Decorator:
    bare = "" if labelled else " Labels may be missing in .npz, .npy and a flat folder of images."
    return _data(
        "-d",
        "--data",
        multiple=True,
        required=required,
        metavar="PATH[#KEY[start:stop]]",
        brief=f"{'Labelled samples' if labelled else 'Samples'}: .npz, folder of images, .csv, .parquet.",
        help=f"{'Labelled samples' if labelled else 'Samples'}: an .npz file (inputs under their tensor "
        "names or `x`, labels under `y` or `labels`), x.npy with y.npy beside it, a folder of such shards, a "
        "folder of images class/*.png, a .csv or .parquet table (columns by name), a .csv of path,label or "
        "image,mask, folders `images` and `masks`, or FILE.py:FUNCTION, which yields batches"
        f"{also}; for detectors a COCO .json, folders `images` and `labels` (YOLO), or `boxes` in an .npz. "
        "#KEY selects x_KEY and y_KEY, or a table's column of labels, "
        f"[start:stop] a range of rows.{bare} Repeatable.",
    )


_NAMES = _data(
    "--names",
    metavar="FILE",
    help="Class names, one per line, in class order.",
)
_TEXT = (
    _data(
        "--alphabet",
        metavar="FILE",
        help="For a model that reads text (CTC), whose labels are what stands in each sample: the character "
        "of each class but the blank, one a line [default: the model's metadata, if they have it].",
    ),
    _data(
        "--blank",
        type=Whole(settings.DataSettings, "blank"),
        metavar="N",
        help="The class of such a model that is no character; -1: the last [default: the one with which it "
        "reads the labelled lines best].",
    ),
)
_LABELS = (
    _data(
        "--head",
        type=click.Choice(get_args(settings.HeadWord)),
        help="What labels are: one of the classes for each sample or position, or several labels at once, a "
        "mark for each [default: as they look].",
    ),
    _data(
        "--ignore-index",
        type=Whole(settings.DataSettings, "ignore_index"),
        metavar="N",
        help="A label at positions that does not count, as every negative one [default: 255 of bytes].",
    ),
    _data(
        "--counted",
        metavar="COLUMN",
        help="Column of the data that says which positions of a sample count, where others fill it up: how "
        "many, from the first on, or an array of the labels' positions, 0 where one does not.",
    ),
)
_INPUTS = _data(
    "--input",
    "inputs",
    multiple=True,
    type=NamedNumber(),
    metavar="NAME=VALUE",
    help="One value for all samples, of an input that is a number, such as sr=16000, or in every place of "
    "one that is not, such as state=0. Repeatable.",
)
_PREPROCESSING = (
    _preprocess("--resize", type=HeightWidth(), metavar="HxW", help="Resize images first."),
    _preprocess(
        "--resize-mode",
        type=click.Choice(get_args(settings.ResizeMode)),
        help="Resize to exactly HxW, until the shorter side is so long, to fit into HxW with a border, or, "
        "a line of text, to a height of H with a border on the right up to W [default: exact].",
    ),
    _preprocess(
        "--pad-value",
        type=Number(),
        metavar="N",
        help="Raw value of the border of a letterbox [default: 0].",
    ),
    _preprocess("--crop", type=HeightWidth(), metavar="HxW", help="Then crop to this size at the center."),
    _preprocess(
        "--layout",
        type=click.Choice(get_args(settings.Layout)),
        help="Axis order that the model expects.",
    ),
    _preprocess(
        "--color", type=click.Choice(get_args(settings.Color)), help="Color order that the model expects."
    ),
    _preprocess(
        "--pixel-scale",
        type=Number(),
        brief="Multiply raw values by this, such as 1/255.",
        help="Multiply raw values by this, such as 1/255.",
    ),
    _preprocess("--mean", type=Numbers(), help="Then subtract this: one number per channel, with commas."),
    _preprocess("--std", type=Numbers(), help="Then divide by this: one number per channel."),
    _preprocess(
        "--dtype", metavar="NAME", help="Type to feed, as NumPy spells it [default: the model's own]."
    ),
)

_ANYWAY = _preprocess(
    "--anyway",
    is_flag=True,
    help="Learn even if the model only guesses on these samples, as it does if they are prepared wrongly.",
)


_BY = _data(
    "--by",
    multiple=True,
    metavar="COLUMN",
    help="Also measure each group of samples by this column of the data, worst first: an array of that name, "
    "a table's column, a key of what a function yields, or `folder` for images. Repeatable.",
)


def samples_options(*, dumps: bool = False, by: bool = False) -> Decorator:
    """`data`: DataSettings of a command that uses all samples.

    dumps : or a folder written by `dump`, of a command that learns from them. by : of one that measures
    groups.
    """
    return gathered(
        "data",
        _make_data,
        _source("; or a folder written by `dump`" if dumps else ""),
        _NAMES,
        *_TEXT,
        *_LABELS,
        _INPUTS,
        *_PREPROCESSING,
        *((_ANYWAY,) if dumps else ()),
        *((_BY,) if by else ()),
    )


_MUST_AND_LOCK = (
    _data(
        "--must",
        multiple=True,
        metavar="PATH[#...]",
        brief="Samples that have to become right. Repeatable.",
        help="Samples that have to get their label in the new file; those that cannot are named. Repeatable.",
    ),
    _data(
        "--lock",
        multiple=True,
        metavar="PATH[#...]",
        brief="Samples that have to stay right. Repeatable.",
        help="Samples whose right decision has to stay; every one that breaks is counted. Repeatable.",
    ),
)
_KEEP = _data(
    "--keep",
    multiple=True,
    metavar="PATH[#...]",
    help="Samples, without labels, on which the model's own decision should stay. By default what it decides "
    "for classes that no label names, on the samples to learn from; `none`: not even that. Repeatable.",
)

# `data`: DataSettings, or None without samples, for commands that can do without them.
later_samples_options = gathered(
    "data",
    lambda **values: _make_data(**values) if values["data"] else None,
    _source(required=False),
    _NAMES,
    *_TEXT,
    *_LABELS,
    _INPUTS,
    *_PREPROCESSING,
)
# The same for `verify`, which counts listed samples too.
verified_samples_options = gathered(
    "data",
    lambda **values: _make_data(**values) if values["data"] or values["must"] or values["lock"] else None,
    _source(required=False),
    *_MUST_AND_LOCK,
    _NAMES,
    *_TEXT,
    *_LABELS,
    _INPUTS,
    _BY,
    *_PREPROCESSING,
)

_SPLITTING = (
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
        brief="Samples to report on, used for nothing else [default: a part of the data].",
        help="Samples to report on, used for nothing else "
        "[default: a stratified part of the data]. Repeatable.",
    ),
)
_SPLIT_PREPARED = (
    _NAMES,
    *_TEXT,
    *_LABELS,
    _INPUTS,
    _data(
        "--seed",
        type=Whole(settings.DataSettings, "seed"),
        metavar="N",
        default=settings.DataSettings.seed,
        show_default=True,
        help="Seed of the split, and of everything random after it.",
    ),
    _data(
        "--group",
        metavar="COLUMN",
        help="Column of the data by which samples belong together, such as the patient or the recording: an "
        "array of that name, a table's column, a key of what a function yields, or `folder` for images. "
        "Samples of one group are never divided between splits or folds.",
    ),
    *_PREPROCESSING,
    _ANYWAY,
)

# `data`: DataSettings, for commands that choose settings and report figures.
split_options = gathered("data", _make_data, _source(), *_SPLITTING, *_SPLIT_PREPARED)

# `data`: DataSettings, for `match`, which needs no labels.
unlabelled_options = gathered("data", _make_data, _source(labelled=False), *_SPLITTING, *_SPLIT_PREPARED)

# `data`: DataSettings, for `fit`, which takes listed samples beside others or instead of them.
listed_options = gathered(
    "data", _make_data, _source(required=False), *_SPLITTING, *_MUST_AND_LOCK, _KEEP, _BY, *_SPLIT_PREPARED
)
