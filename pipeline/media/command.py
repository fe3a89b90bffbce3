"""`hushword media`: the catalogue of what airs, known and discovered, and its upkeep."""

import typer

from pipeline.media.add import add
from pipeline.media.keep import block, promote, remove, unblock
from pipeline.media.list import list_media, show
from pipeline.media.transfer import export_file, import_file

app = typer.Typer(
    help="What airs: known media from recordings, and averages that were discovered.", no_args_is_help=True
)

app.command("list")(list_media)
app.command("show")(show)
app.command("add")(add)
app.command("remove")(remove)
app.command("promote")(promote)
app.command("export")(export_file)
app.command("import")(import_file)
app.command("block")(block)
app.command("unblock")(unblock)
