"""The run directory: its layout, its documents and tables, and the stores that hold it."""
