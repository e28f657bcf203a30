"""Fit: the best patch that the tables allow.

fit           all candidates, and the choice among them
learning      the samples, and mirrored copies of them
candidate     what a candidate is
linear        linear patches of all classes
mlp           one hidden layer
trainings     how an MLP does on samples held out
small         few neurons, within a budget
weighted      goals that some samples matter more to, their rows weighted
slice_judge   how a group of samples does
metric_judge  how a metric does
positions     what pays only where rows are positions of samples
several       several labels at once, each a problem of its own
boxes         the classes of a detector, judged by average precision
by_goal       which way of fitting a goal needs
"""
