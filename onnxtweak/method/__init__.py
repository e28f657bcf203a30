"""From scores and tables to a patch: choose neurons, set weights, judge on samples held out.

table       values of chosen neurons and logits, in memory: what every learner works on
metrics     accuracies, E, McNemar
folds       which samples are held out together
selection   which neurons, in which order (METHOD 3, 7.2)
join        synaptic join (METHOD 4)
retrain     synaptic retraining, and the schedule (METHOD 5)
augment     augmentation with active neurons (METHOD 6)
fit         all classes jointly, and the surplus spent (METHOD 7)
compare     every method on the same samples (METHOD 8)
solvers     convex solvers on a table (METHOD 5, 7)
tuning      operating points, biases, the certificate (METHOD 4, 7)
"""
