"""Other import paths of classes of `experiments`."""
