"""At which operating point is a patch used? Counts, scales and biases, set on samples held out.

boosted           what is predicted when target logits are raised
bias_path         what is predicted along the boost of one target
operating_point   which n and scale for each target
target_bias       the surplus of overall accuracy, spent on the targets
spared_classes    classes that would pay for the targets
metric_bias       biases that are best for a metric
label_bias        the threshold of each of several labels
label_point       n and scale of each of several labels
by_head           operating point, control and gains, as the model's head asks for them
bias_control      what biases alone would do
certificate       how strong a patch may be with a guarantee
"""
