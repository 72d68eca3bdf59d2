"""Files -> sources -> prepare -> store -> batches."""
