"""From counts to figures, to the verdict and to what report.json says."""
