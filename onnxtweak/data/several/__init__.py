"""Which samples have several labels at once, or sizes of their own?

label_kind      whether labels are several at once, or a class each
marks           a mark for each sample and class: there, not there, not known
at_positions    the same at each position of a sample
own_sizes       samples of different sizes, and their labels behind one another
object_rows     arrays of different sizes as Python objects: read, or why they are refused
"""
