"""What does this machine have?

gpu            does a GPU answer, and which one is meant?
malloc_trim    memory that the C library holds back, given to the system
"""
