"""Which nodes are added where there are scores at every position?

position_nodes  scores, hidden values and a patch at the positions of the logits
context_nodes   what is the same at every position of a sample
read_nodes      maps, means and places at the positions of the logits
interpolation   single rows of a map of other positions
place_nodes     weights of each place's own
level_nodes     hidden values and a patch at the anchors of a detector's levels
"""
