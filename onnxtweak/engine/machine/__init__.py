"""What does this machine have?

gpu            GPUs that answer, and those that `--device` names
malloc_trim    freed memory that the C library holds, returned to the system
"""
