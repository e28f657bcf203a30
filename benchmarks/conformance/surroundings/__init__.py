"""Do commands keep their promises whatever happens around them? Random cases, each repeated by its number.

python -m benchmarks.conformance.surroundings [--cases 5000] [--seed 0] [--case NUMBER] [--keep FOLDER]

jobs         which commands are tried?
workshop     on which files do the commands work, and what do they write undisturbed?
launch       how is a command run under watch?
warm         how does a command start within milliseconds?
judge        what must hold whatever happens?
trial        one case's folder, in which jobs are done and judged
kills        stopped at any moment, and given again
limits       full disks, files of limited size and number
damage       damaged, exchanged and unreadable inputs and caches
pairs        two commands at once
containers   other users, no home, closed streams, no variables
"""
