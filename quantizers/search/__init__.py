"""How the nearest code is found: one module a method, all with the same answer.

Every method screens codes in fast, inexact arithmetic whose error it can bound, and decides among
those that the bound can't tell apart by the scores of `scores.py`. So the codes are those of
float64 arithmetic, ties go to the lowest index, and no choice of method, batch, threads or device
changes them.
"""
