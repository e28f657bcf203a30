"""What is there to say about boxes: which overlap, which are found, and how well?

head               what does a detector decide at each of its anchors?
overlap            by how much do boxes overlap?
truth              which objects are in the pictures, and where?
matching           which class does each anchor get as its label?
answers            what does a model answer where labelled boxes are?
suppression        which of the boxes that a model gives are left, without worse ones that overlap?
average_precision  how well are objects found? AP at each overlap
"""
