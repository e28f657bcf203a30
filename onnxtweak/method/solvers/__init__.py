"""Which weights fit best? Convex solvers, the base's logits a fixed offset.

multinomial        a ridge on all classes, or on one target
multi_target       several targets, each with neurons of its own
standard           columns made ready, so that one penalty suits them all
proximal           penalties that make weights vanish
matching_pursuit   neurons chosen one at a time
"""
