"""Which options are there?

shared    model, targets, method, machine, output, reporting
fitting   what `fit` and `compare` share
data      samples, and what is done to them
groups    options under headings, gathered into settings
values    numbers, sizes and lists as text
"""
