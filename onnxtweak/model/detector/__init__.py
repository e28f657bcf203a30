"""Is a model a detector, and where are its class scores and boxes?

layout  how does a detector hold them?
search  where in a graph are they?
"""
