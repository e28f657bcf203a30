"""What does each command take, and what does it show? One file per command, named after it.

A callback imports the pipeline only when it runs, so that `--help` needs neither NumPy nor a runtime. To add
a command, write its file and name it in `onnxtweak.cli.main.COMMANDS`.
"""
