"""Is a model a detector, and where are its class scores and boxes?

layout  how does a detector hold them?
levels  which maps do joined anchors come from?
search  where in a graph are they?
"""
