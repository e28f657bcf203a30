"""The page for whoever has to sign off a patched model.

page            its sections, from the JSON of a result alone
matched         a copy beside its reference
samples         samples that changed, and samples that were listed
class_table     a row for each class
pictures        confusion, trade-off, tuning, and where the patch reads
charts          numbers as SVG
graph_picture   the graph around a tweak
"""
