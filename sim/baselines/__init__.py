"""Other designs to compare the link with: channel codes, labels, the sentences themselves."""
