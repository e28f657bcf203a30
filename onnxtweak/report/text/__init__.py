"""What does the text of a result say, on a terminal and in Markdown?

layout        headings, facts, tables and notes
verdict       which promises were kept
metric        metrics, and the one that was the goal
by_group      accuracy of each group of samples
summary       results of most commands
inspection    what is in a model
comparison    of `compare`
dry_run       of --dry-run
runs          of recipes
surgery       of revert, diff and verify
machine       of `doctor`
"""
