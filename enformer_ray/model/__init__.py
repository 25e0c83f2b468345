"""What predicts: the Enformer network and its weights."""
