"""Experiments that answered one question once, and the pages that tell of them. Run one as `python -m research.NAME`, in the
repository.
"""
