"""Figures that can be trusted: the judge of pitch, the table of the four rungs, the report."""
