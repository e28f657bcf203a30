"""What does `fit` do about the objects that a detector finds, and what becomes of them?

anchors  which of them methods decide about, and which classes should be found better
doubts  are labelled objects where the model finds some, and of the classes that it says?
preparations  does a detector find more in pictures that are prepared in another way?
propose  the classes to raise, what is learnt from anchors, and the patch
outcome  what became of the objects, in the file
pictures  which of them are shown on the page?
"""
