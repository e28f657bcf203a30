"""Which samples have several labels at once, and which?

marks   a mark for each sample and class: there, not there, not known
"""
