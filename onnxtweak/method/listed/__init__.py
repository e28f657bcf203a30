"""Listed samples: those that must become right, and those that must stay so (METHOD 14).

problem       rows that have to become right, and rows that have to stay
repair        the patch that does it, its form, and what is infeasible
forms         a patch for all samples alike, or a hidden unit for each listed one
imitation     how other samples would look if what spoils must-samples befell them
taught        hidden units that imitations teach to put them right and to leave others alone
disturbance   how much a patch moves the logits of samples that must stay
"""
