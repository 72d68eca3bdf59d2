"""Other uses of a model, a verb each: restore, score, compress and decompress."""
