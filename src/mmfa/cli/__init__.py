"""The command line: one entry point, sub-commands over typed functions, no logic of its own."""
