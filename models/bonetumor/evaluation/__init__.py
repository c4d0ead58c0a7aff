"""How good it is: figures with intervals, from predictions alone. Knows no network."""
