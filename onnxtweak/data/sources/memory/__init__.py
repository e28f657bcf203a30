"""How are samples read that a Python program holds? Arrays, tables or batches; nothing is copied whole.

held      which reader takes what is handed over
arrays    arrays by name, as an .npz file has them
table     columns by name, as a Parquet file has them
batches   batches, one after the other, kept on disk
arrow     tables that only speak a protocol
values    anything that is an array, as NumPy has it
"""
