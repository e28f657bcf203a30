"""What does another model answer on the samples of a job?

open_other   another model opened, and the job's samples as it takes them
reference    the decisions of a reference, in place of labels
runtimes     base and tweaked file in other runtimes
rewritten    a file that another tool made of a tweaked one, beside it
quantising   whether a quantiser would lose what a tweak does, and which nodes it should leave out
"""
