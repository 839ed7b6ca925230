"""What stands in a bundle besides the graphs: vectors, accuracy, card, other formats, the page."""
