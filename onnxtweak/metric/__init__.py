"""What does "better" mean? A metric: one number for what a model says of labelled samples (METHOD 7.6).

asked       the words that a user writes, and the metric that they mean
kinds       each metric: its value, which samples it needs, how it moves along one bias
rate        recall at a limit on false alarms, and the cut that keeps the limit on new samples
several     F1 and average precision, where a sample has several labels at once
lines       how well lines of text are read: errors by character and by word, lines that are right
costs       what each mistake costs, read from a file
bootstrap   how far a value, or a change of it, can be trusted
"""
