"""How good is it: one package that runs metrics over a candidate, scores it, compares it and shows the result."""
