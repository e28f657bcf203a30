"""Fit: the best patch that the tables allow.

fit         all candidates, and the choice among them
learning    the samples, and mirrored copies of them
candidate   what a candidate is
linear      linear patches of all classes
mlp         one hidden layer
slices      a group of samples, its rows weighted
small       few neurons, within a budget
"""
