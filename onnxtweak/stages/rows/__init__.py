"""Which rows do samples have, where labels do not say?

unlabelled   positions of samples without labels are drawn, their marks unknown
"""
