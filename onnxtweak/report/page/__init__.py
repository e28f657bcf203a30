"""The page for whoever has to sign off a patched model.

document        which page results get, whatever command they are of
page            the sections of a patch, from the JSON of its result alone
several         results side by side
other           evaluations, comparisons, and any other result
frame           what is around the sections: style, script, policy
strengths       what a stronger or a weaker patch would do
matched         a copy beside its reference
samples         samples that changed, and samples that were listed
class_table     a row for each class
pictures        confusion, trade-off, tuning, and where the patch reads
charts          numbers as SVG
graph_picture   the graph around a tweak
"""
