"""What does a head say that is read by connectionist temporal classification (CTC), as text mostly is?

Such a head has a class for every character and one for none, the blank, at every position; runs of one class
are read once, and blanks left out (Graves et al., 2006).

alphabet     which character does each class stand for, and which is the blank?
alignment    which class does a text want at each position? The best path through the base's own scores
transcripts  what stands in the lines of a dataset, and what does a model read in them?
"""
