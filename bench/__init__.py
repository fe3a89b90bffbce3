"""Speed of the library and of the whole job on this machine: `python -m bench`."""
