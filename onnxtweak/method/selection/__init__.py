"""Which neurons are worth a connection?

ranking          by theta, best first
candidates       what is kept of theta when its state is gone
screening        by how much of the loss each would explain
active_neurons   the best of every class, united, for augmentation
numbering        neurons by numbers that count through all taps
"""
