"""What pays only where rows are positions of samples.

context   what a sample is like as a whole, beside a position's own channels
"""
