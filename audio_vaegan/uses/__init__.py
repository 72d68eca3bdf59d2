"""Other uses of a model, a verb each: restore, score, classify, compress and decompress, export, push."""
