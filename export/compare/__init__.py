"""Whether two runs of one graph, or a program and its graph, give the same."""
