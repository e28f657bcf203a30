"""From scores and tables to a patch: choose neurons, set weights, judge on samples held out.

table        values of chosen neurons, logits and labels: what every learner works on
folds        cross-validation
chance       whether a model guesses
metrics      accuracies, E, McNemar's test
patch_sum    two patches as one
softmax      softmax, log-sum-exp, log-loss
descent      gradient descent by minibatches
temperature  the base's logits, calibrated
selection    which neurons, in which order
solvers      the weights that fit best
tuning       the operating point: n and scale, or biases, within the drops allowed
join         synaptic join
retrain      synaptic retraining, and schedules of joins and retrainings
augment      the MLP on active neurons
listed       listed samples made right, others kept right
fit          the best patch that the tables allow
match        a copy patched towards a reference
compare      all methods on the same samples
"""
