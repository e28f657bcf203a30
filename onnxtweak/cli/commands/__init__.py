"""What does each command take, and what does it show?

main_job      demo, inspect, evaluate, join, apply, dump, score
retraining    retrain, augment
learning      fit, compare
surgery       revert, diff, verify
reporting     report
recipes       init, run
machine       doctor, completion
"""
