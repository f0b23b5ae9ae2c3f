"""Resumable evaluation of any system on any manifest with any metric or study, without
imputation.
"""
