"""How are samples read? One file for each kind of source.

npz, npy        arrays, mapped into memory
shards          folders of arrays
parquet         tables of columns
image_source    folders of pictures, and CSV files that name them
function        a Python function that hands over batches
"""
