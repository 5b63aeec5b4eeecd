"""Recipes: a whole experiment as one YAML file, checked before anything runs, resumed where it stopped."""
