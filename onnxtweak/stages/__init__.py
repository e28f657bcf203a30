"""Which stages do several commands share? Each in a file of its own, in the order of a job.

open_job              a job: model and samples opened, taps chosen
check_paths           do outputs keep clear of one another and of what is read?
open_for_tables       the same, for what learns from tables
companions            does an answer depend on the other samples of its batch?
watch_taps            the hidden tensors that a job watches
head_check            do the labels fit what the model seems to be?
preprocess_record     how does preprocessing travel in tweaks and tweaked files?
preprocessing_check   does the base answer better than by guessing?
likely_mistake        why might it only guess?
choose_goal           which classes or group of samples should do better, and what may it cost?
score                 theta of every neuron over the fit samples
rank                  the best neurons of each target
choose_neurons        the neurons of a table, by screening where there are too many
gather                tables of chosen neurons
comparing             methods compared on one split
boxes                 models that find objects, whose labels are boxes
objects               the objects that they find: raised by `fit`, and what became of them
lines                 lines of text, whose labels say what stands in them
lists                 listed samples: learnt from, made right, kept, and counted on the written file
judge_promises        which promises did the written file keep?
rows                  which rows samples have, where labels do not say
other_models          what another model answers on a job's samples
proposal              what is delivered: what a method made, and what its tables predict
deliver               a patch spliced in, checked, measured and written
checks                the checks that a file must pass
on_samples            checks of what a file computes on samples
report_data           what a report is drawn from
report_page           the HTML page of a result
open_tweak            a saved tweak and its base
plan_passes           which passes a job would make, and how long they would take
run_files             the files of a recipe, delivered together
sample_notes          what a user should know about samples and neurons
"""
