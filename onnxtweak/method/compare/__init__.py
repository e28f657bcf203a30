"""Every method on the same samples.

methods            the list of methods
synapse_methods    those that give the targets synapses of their own
inputs             what each of them gets
controls           the cheap alternatives
standings          each over the repeats
comparison         each one's operating point set, and read on test
"""
