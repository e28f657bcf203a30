"""What pays only where rows are positions of samples.

places    weights of their own for each place of an axis
context   what a sample is like as a whole, beside a position's own channels
"""
