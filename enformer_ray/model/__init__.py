"""The Enformer network, its weights in every published layout, and the fast paths that scoring uses."""
