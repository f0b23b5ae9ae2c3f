"""Exact nearest-code search: one module per method, all with the same results.

Every method first screens codes in fast arithmetic with a bounded error. Codes that the bound can't
separate are compared by the float64 scores of `scores.py`. So the results are those of float64
arithmetic, ties go to the lowest index, and no choice of method, batch, threads or device changes
them.
"""
