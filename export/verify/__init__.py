"""``tp-verify``: every check of a finished bundle, without torch."""
