"""How does gradient descent go down a loss, a minibatch at a time?

cross_entropy  the loss, of one class or of every label
minibatches    the samples of each step
steps          an MLP's gradients, and Adam
"""
