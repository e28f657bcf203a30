"""What do several commands do about samples that are listed one by one (METHOD 14)?

base_decisions        what the base decides for them, and whether two lists contradict each other
keep_decisions        decisions of the base that stay, because no label says what is right
imitate               other samples as they would look if what spoils must-samples befell them
make_right            the patch that makes must-samples right and breaks nothing
count_outcome         what became of them, counted on the written file
"""
