"""What do commands do about models that find objects?

settle_boxes  which class does each anchor get as its label, and which anchors are learnt from?
measure       how well does a file find objects, by its own output?
"""
