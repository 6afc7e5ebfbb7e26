"""Colours of all charts: Okabe and Ito's, which people with each of the three kinds of colour blindness tell apart."""

# M. Okabe and K. Ito, Color Universal Design, 2008. The first four have a contrast of 3 with white and with near black.
BLUE, VERMILION, GREEN, PINK, SKY, ORANGE = SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
TRAINING, VALIDATION, TEST = BLUE, VERMILION, GREEN
INK, FAINT, GRID = "#1f2328", "#8b929a", "#d5d9de"  # text; what stands behind; lines to read values by
