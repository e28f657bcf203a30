"""What does the text of a result say, on a terminal, in Markdown and in a notebook?

layout        headings, facts, tables and notes, on a terminal and in Markdown
notebook      the same in a notebook
verdict       which promises were kept
metric        metrics, and the one that was the goal
matched       a copy that was matched to a reference
by_group      accuracy of each group of samples
summary       results of most commands
inspection    what is in a model, and what works on a machine
comparison    of `compare`
dry_run       of --dry-run
runs          of recipes
surgery       of revert, diff and verify
"""
