"""From scores and tables to a tweak: choose neurons, set weights, judge on validation.

metrics    accuracies, E, McNemar
select     which neurons, in which order
decide     predictions under boosts of the target logits
operate    the operating point: n and scale, or a bias, within the allowed drop
join       synaptic join
"""
