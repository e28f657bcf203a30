"""What becomes of lines of text, whose labels say what stands in them (METHOD 13)?

find_alphabet   which characters do the model's classes stand for?
settle_lines    how does a job of lines become one of positions? All of the following in turn
align_lines     which class does each position get? The base's own best path that reads as the text
name_classes    which classes do labels name, and which are left out of the tables as the rest?
read_lines      what is read in each line, before and after?
"""
