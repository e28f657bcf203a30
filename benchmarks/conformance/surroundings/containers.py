"""Does a command work where little is as at home? Another user, no home, closed streams, no variables.

Only what it cannot do without ends it, in one line: no folder for temporary files, none for its output, no
stdout.
"""

from __future__ import annotations

import os

from benchmarks.conformance.surroundings.judge import Expected
from benchmarks.conformance.surroundings.trial import NOBODY, Trial, can_be

_EXECUTED = 0.1


def contain(trial: Trial) -> None:
    """One job in strange surroundings."""
    job = trial.job()
    trial.shop.result(job)
    bench, program = trial.bench(job), trial.program(_EXECUTED)
    around = bench.around(program=program)
    variables, codes, same, silent = dict(around.environment), {0}, True, False
    starts = bool(program) or job.workers
    user = NOBODY if trial.chance(0.6) and can_be(NOBODY, starts) else None
    trial.open_to(user)
    if trial.chance(0.3):
        variables = {"TMPDIR": variables["TMPDIR"]} if program else dict(variables)
        trial.said.append("no variables")
    if trial.chance(0.5):
        home = trial.one_of("/nonexistent", "/", str(bench.folder / "nowhere" / "deep"), "", "/dev/null")
        variables["HOME"] = str(home)
        trial.said.append(f"HOME={home}")
    if trial.chance(0.3):
        variables["TMPDIR"] = str(trial.one_of("/nonexistent", "/dev/null", "/proc"))
        codes |= {2, 4}
        trial.said.append(f"TMPDIR={variables['TMPDIR']}")
    if trial.chance(0.3):
        variables |= {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
        trial.said.append("ASCII")
    if trial.chance(0.2):
        variables["NUMBA_CACHE_DIR"] = str(trial.one_of("/nonexistent/cache", "/dev/null", "/proc"))
        trial.said.append(f"NUMBA_CACHE_DIR={variables['NUMBA_CACHE_DIR']}")
    streams = {"stdout": "read", "stderr": "read"}
    if trial.chance(0.25):
        streams["stdout"] = str(trial.one_of("full", "gone", "closed"))
        codes |= {141, 2} if streams["stdout"] == "gone" else {2}
        same = False
    if trial.chance(0.25):
        streams["stderr"] = str(trial.one_of("full", "gone", "closed"))
        silent = True
    trial.said += [f"{name} {how}" for name, how in streams.items() if how != "read"]
    if user is not None:
        trial.said.append("another user")
    if user is not None and trial.chance(0.2):
        os.chmod(bench.place, 0o555)
        os.chown(bench.place, 0, 0)
        codes |= {2}
        trial.said.append("a folder of somebody else's")
    # With a stdout that fails, the files that were asked for may be there.
    readable = variables.get("PYTHONIOENCODING") != "ascii"
    expected = Expected(frozenset(codes), same=same, silent=silent, told=readable, whole=frozenset(codes))
    around = bench.around(program=program, environment=variables, user=user, **streams)
    trial.carry_out(job, around, expected)
