"""The thesis's experiments, one module a table: train what must be trained, run every method, write it down.

    python -m benchmarks.science.thesis --data DIR                  all of them, in order
    python -m benchmarks.science.thesis.table_3_3 --data DIR        one

Every `table_*.py` has `run(options) -> Page` and ends with `command(run, __doc__)`; its name is in
`__main__.py`. What it builds on:

    data.py            `Sample` -> `divide`: training, held-out and test samples; `as_file` for onnxtweak
    nets.py            CNN-3, ResNet-20, DenseNet-40 in PyTorch; `export`
    recipes.py         `Recipe`: all that determines a net; `retrainings`: the thesis's rivals
    train.py           `trained`: a net on disk, trained once
    sizes.py           `Options` from the command line; `base_recipe(options, net, seed)`: the shared bases
    methods.py         `readings_of`: what onnxtweak's methods reach on a base, in one sweep; `open_bench`;
                       `read_logits`, `thesis_rivals`: the same reading of any other net
    rivals.py          `methods_table`: what tables 3.3 to 3.5 and 3.9 have in common
    long_tail.py       `long_tailed(options, dataset, seed)`: the long-tailed bases
    grow.py            `grown`: DA, WA, and training on without a new layer
    scores.py          theta of every neuron, by `onnxtweak score`; rankings by any criterion
    words.py           numbers in sentences
    tables.py          `interval`, `cell`, `grid`, `Page`, `write`: Markdown and JSON
    pictures.py        `curves`: SVG
    thesis_numbers.py  the thesis's own numbers, as far as we know them
    collect.py         puts all pages into docs/lab_book.md

Choices (targets, operating points, epochs) are made on held-out samples. Test samples are measured once.
"""
