"""What does the text of a result say, on a terminal and in Markdown?

layout        headings, facts, tables and notes
verdict       which promises were kept
by_group      accuracy of each group of samples
summary       results of most commands
comparison    of `compare`
dry_run       of --dry-run
runs          of recipes
surgery       of revert, diff and verify
machine       of `doctor`
"""
