"""The demo: a small generated genome, variants and study whose true effects are known, scored in minutes."""
