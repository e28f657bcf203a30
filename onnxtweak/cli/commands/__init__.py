"""What does each command take, and what does it show? One file per command, named after it.

demo, inspect, evaluate                a first look
join, retrain, augment, fit, compare   the methods, each and side by side
match                                  a copy that decides as its reference does
apply, revert, diff, verify            files that are tweaked already
init, run                              recipes
score, dump                            what is computed on the way
report, doctor, completion             the HTML page, the machine, the shell

A callback imports the pipeline only when it runs, so that `--help` needs neither NumPy nor a runtime. To add
a command, write its file and name it in `onnxtweak.cli.main.SECTIONS`.
"""
