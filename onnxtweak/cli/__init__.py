"""The command line: the only place that prints.

main           the program: groups of commands, exit codes
commands       what each command takes and shows
options        the options that several commands share
output         a result on stdout, the last words on stderr
console        narration, progress and errors on stderr
completion     what a shell completes
blas_threads   how many cores NumPy may take
"""
