"""Other designs beside the link: channel codes, classify-and-send."""
