"""The networks of MMFA, one file each, params dataclass on top. They know nothing of files."""
