"""Recipes: one experiment a file, with Config, fit, evaluate and run; `python -m commonspace.recipes.NAME --help`."""
