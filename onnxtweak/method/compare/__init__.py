"""Comparison of all methods on the same samples.

methods            the list of methods
synapse_methods    those that give each target synapses of its own
inputs             what every method gets
controls           the cheap alternatives
repair             the classes at the top, ranked anew
standings          each over the repeats
comparison         each method's operating point, and its readings on test
"""
