"""What may be chosen of an import, without what carries it out."""

AGGREGATES = ("mean", "sum", "max", "interpolate")
EMPTY, SATURATED, TIC = "empty", "saturated", "tic"
REASONS = (EMPTY, SATURATED, TIC)
# Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993): a modified z-score above 3.5.
TIC_SPREAD = 3.5
