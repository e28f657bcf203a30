"""How are samples read? One module per file format, and a folder for what a program holds in memory.

npz, npy        arrays, mapped into memory
numbered        arrays of samples by number, x_0, x_1, ...
shards          folders of arrays
parquet         tables of columns
parquet_pages   how large their pages are
csv_table       tables of columns as text, and lists of pictures
table_columns   which column feeds which input, and which holds the labels
boxes           boxes of objects, as COCO and YOLO have them
image_source    folders of images, and lists of them
function        a Python function that yields batches
memory          arrays, tables and batches of a Python program
held_whole      how large labels, class names and text may be
spool           samples that can be read only once, kept on disk
"""
