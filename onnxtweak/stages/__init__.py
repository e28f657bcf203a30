"""What several commands do, each stage in a file of its own, in the order of a job.

open_job              model and samples opened, taps chosen
preprocessing_check   why might the model only guess?
choose_goal           which classes should do better, and what may it cost?
score                 theta of every neuron over the fit samples
rank                  the best neurons of each target
choose_neurons        the neurons of a table, by screening where there are too many
gather                tables of chosen neurons
deliver               a patch spliced in, proven, measured and written
checks                the proofs that a file must pass
report_data           what the pictures of a report are drawn from
report_page           the page of a result
open_tweak            a saved tweak and its base
plan_passes           which passes a job would make, and how long they would take
run_files             where the files of a recipe go
sample_notes          what a user should know of the samples and the neurons
"""
