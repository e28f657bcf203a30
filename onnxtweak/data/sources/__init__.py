"""How are samples read from files? One module per file format.

npz, npy        arrays, mapped into memory
shards          folders of arrays
parquet         tables of columns
image_source    folders of images, and CSV files that name them
function        a Python function that yields batches
"""
