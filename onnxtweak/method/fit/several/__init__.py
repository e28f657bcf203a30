"""Several labels at once, each a problem of its own.

problem    marks, calibrated logits and weights of samples: what a label learns from
weights    weights of a label on many neurons, at its own ridge
hidden     one hidden layer that all labels share, beside those weights
by_place   weights of each place's own, where rows are positions
synapses   few neurons for each label, within a budget
outcome    what each label gets, judged on samples held out: weights, a threshold, or nothing
labels     the best patch for all labels
slices     the same for one group of samples, which counts for more
"""
