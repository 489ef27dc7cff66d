"""How well a search finds what was meant: labelled needs, figures, a check against a baseline."""
