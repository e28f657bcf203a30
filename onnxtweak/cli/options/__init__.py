"""Which options are there, and how do they become settings?

shared    model, targets, machine, output, reporting
method    how a method works
fitting   what `fit` and `compare` share
data      samples, and how they become the model's input
groups    options under headings, gathered into settings
values    numbers, sizes and lists from text
"""
