"""Which rows do samples have, where labels do not say?

own_positions  how many positions each sample has, where they are of different sizes
unlabelled     positions of samples without labels are drawn, their marks unknown
"""
