"""What does this machine have, and what fits into it?

gpu            GPUs that answer, and those that `--device` names
memory_plan    batch, fold and block sizes that fit a memory budget
large_arrays   arrays that memory cannot hold, in files, and sums over their rows
columns        one column after the other, or some of another array
products       a table times weights, block by block
narrow_rows    sums and maxima over the few classes of each row
malloc_trim    freed memory that the C library holds, returned to the system
prefetch       the next samples are read while the current ones run
single_thread  linear algebra that takes no more than one core per task
"""
