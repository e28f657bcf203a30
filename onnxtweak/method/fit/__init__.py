"""Fit: the best patch that the tables allow.

fit       all candidates, and the choice among them
linear    linear patches of all classes
mlp       one hidden layer
small     few neurons, within a budget
"""
