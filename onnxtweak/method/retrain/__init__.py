"""Synaptic retraining, the second step of the thesis.

weights     the weights of chosen synapses, at their optimum
synapses_by_class   the synapses so far
schedule    joins and retrainings in turn
"""
