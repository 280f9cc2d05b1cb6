"""Speed, memory and quality side by side: what is measured again for each release. Run one as `python -m benchmarks.NAME`, in the
repository; `--help` says what it measures and what it prints.
"""
