"""Synaptic retraining: the thesis's second step.

weights     the weights of chosen synapses, at their optimum
schedule    joins and retrainings in turn
"""
