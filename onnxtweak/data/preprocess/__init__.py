"""How is a stored sample preprocessed into what the model's input expects?

plan            all steps in order, checked against the model's input
shapes          image layouts and reordered axes
sizes           how large an image is after resizing
transforms      resize, crop, colour order of batches of images
decode          image files, through Pillow
padding         positions that are filled up, and do not count
one_sample      a single sample, stored without an axis that counts samples
masks           mask files, which are labels at positions
values          pixel scale, mean, std, dtype
parallel_rows   the rows of a batch made by several threads
"""
