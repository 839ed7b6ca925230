"""The report: figures, tables, page."""
