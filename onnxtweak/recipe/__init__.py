"""What does a recipe ask for? TOML to settings: strict, relative to its file, overridable.

plan       the nouns: what a recipe asks for
goal_table  what [goal] says to every tweak
values     how TOML values become settings
overrides  what the environment and --set change in it
reading    the file and its tables, with "did you mean"
gates      which limits were kept?
template   the recipe that `init` writes
"""

from onnxtweak.recipe.plan import GATES, ComparePlan, Gates, Recipe, TweakPlan
from onnxtweak.recipe.reading import read_recipe

__all__ = ["GATES", "ComparePlan", "Gates", "Recipe", "TweakPlan", "read_recipe"]
