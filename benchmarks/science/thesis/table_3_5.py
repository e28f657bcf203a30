"""Table 3.5: the methods of table 3.3 on deeper nets, ResNet-20 and, with --full, DenseNet-40; CIFAR-10."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.science.thesis.rivals import rivals_page
from benchmarks.science.thesis.sizes import Options
from benchmarks.science.thesis.tables import Page, command

# At the default size a retraining of ResNet-20 takes as long as one of CNN-3 with three times the images.
FEWER = ("more epochs", "Retraining-1")
# What the thesis watched of these nets: the last map at each resolution.
TAPS = "stages"


def run(options: Options) -> Page:
    title = "Table 3.5: one target class, deeper nets"
    only = () if options.sizes.name == "full" else FEWER
    page = rivals_page("table_3_5", title, "resnet20", options, only=only, taps=TAPS)
    if "densenet40" not in options.sizes.nets:
        return page
    dense = rivals_page("table_3_5", title, "densenet40", options, taps=TAPS)
    raw = {"resnet20": page.raw, "densenet40": dense.raw}
    pictures = {**page.pictures, **dense.pictures}
    return replace(page, blocks=[*page.blocks, *dense.blocks], raw=raw, pictures=pictures)


if __name__ == "__main__":
    command(run, __doc__)
