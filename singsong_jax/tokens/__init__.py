"""What a number means: vocabulary, featurizations, interleaving, windows. NumPy only."""
