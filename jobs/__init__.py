"""Work on files: one file in constant memory, and many files resumably."""
