"""The two-phase method: learn soft, align hard."""
