"""Which weights fit best? Convex solvers, the base's logits a fixed offset.

design             a table made ready for solving
softmax_loss       what a joint fit minimises
multinomial        a ridge or L1 fit of all classes, and the logistic fit of one target
chunked            the joint fit of a very large table, here or by workers
logistic           several labels at once, each a problem of its own
regression         the least squares of what logits lack
multi_target       several targets, each with neurons of its own
lbfgs              the minimiser of smooth losses, and what an objective is
proximal           the minimiser under penalties that make weights vanish
squared_hinge      listed rows made right by a margin, others kept right
matching_pursuit   neurons for one class, chosen one at a time
standard           columns scaled so that one penalty suits them all
"""
