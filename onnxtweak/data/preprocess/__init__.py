"""How does a stored sample become what the model's input wants?

plan            all steps in order, checked against the model's input
shapes          layouts and reordered axes
transforms      resize, crop, colour order of batches of pictures
decode          picture files, through Pillow
values          scale, mean, deviation, dtype
"""
