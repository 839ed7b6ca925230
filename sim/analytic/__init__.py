"""Expected accuracy under hard decisions, without drawing noise."""
