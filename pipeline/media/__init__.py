"""`hushword media`: the catalogue of what airs, known and discovered, and its upkeep.

`command` is the command's group; `add`, `keep`, `list`, `transfer` and `device_pack` are its commands. `sources` reads
recordings, `find` looks for the wake word in them, `same` for what is known already, `adding` makes entries of them;
`entries` says what each must be, `file` and `topic` are where they are kept. Importing this package costs nothing.
"""
