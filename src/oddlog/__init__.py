"""oddlog: find the odd lines in any log."""
