"""The command line: the only place that prints.

start          the program as a process, which can be stopped from its first moment on
stopping       Ctrl-C, termination and hangup
main           the program: groups of commands, exit codes
commands       what each command takes and shows
options        the options that several commands share
output         a result on stdout, the last words on stderr
console        narration, progress and errors on stderr
completion     what a shell completes
blas_threads   how many cores NumPy may take
"""
