"""`hushword media export` and `import`: the known media of a cluster, into one file and out of it."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.flags import ConfigFile, with_settings
from pipeline.options import load_settings

_SHOW_EVERY = 500


@with_settings("bootstrap_servers", "media_topic", "bits", "filters")
def export_file(
    path: Annotated[Path, typer.Argument(help="The file to write.", metavar="FILE")],
    config: ConfigFile = None,
    **flags: Any,
) -> None:
    """Write all known media to one file, for another cluster or for keeping."""
    settings = load_settings(config, flags)
    from pipeline.kafka.topics import check_cluster
    from pipeline.matching import load_bits
    from pipeline.media.file import write_entries
    from pipeline.media.topic import known

    bits = load_bits(settings).name
    check_cluster(settings, {"media": ("READ",)})
    there = known(settings)
    entries = [entry for _, entry in sorted(there.items()) if entry.bits == bits]
    write_entries(path, bits, entries)
    others = len(there) - len(entries)
    print(f"{path}: {len(entries)} entries" + (f"; {others} of other bits than {bits} are left out" if others else ""))


@with_settings("bootstrap_servers", "media_topic", "bits", "filters")
def import_file(
    path: Annotated[Path, typer.Argument(help="What `hushword media export` wrote.", metavar="FILE")],
    config: ConfigFile = None,
    **flags: Any,
) -> None:
    """Take known media from a file: nothing is written before all of it is checked, and what is there already stays.

    Given twice it changes nothing the second time; after Ctrl-C, give it again for the rest.
    """
    settings = load_settings(config, flags)
    from pipeline.interrupt import stoppable
    from pipeline.kafka.topics import check_cluster
    from pipeline.matching import load_bits
    from pipeline.media.file import entries_said, read_entries
    from pipeline.media.topic import MediaWriter, known
    from pipeline.progress import PhaseProgress

    bits = load_bits(settings)
    total = entries_said(path, bits)
    check_cluster(settings, {"media": ("READ", "WRITE")})
    added = changed = done = 0
    with stoppable() as stop, PhaseProgress(Console(stderr=True)) as bar:
        for number, _ in enumerate(read_entries(path, bits), start=1):
            if number % _SHOW_EVERY == 0 or number == total:
                bar("checking", number, total)
            if stop.is_set():
                break
        if not stop.is_set():
            there = known(settings)
            with MediaWriter(settings) as writer:
                for done, entry in enumerate(read_entries(path, bits), start=1):
                    before = there.get(entry.media_id)
                    if before != entry:
                        writer.put(entry)
                        added, changed = added + (before is None), changed + (before is not None)
                    if done % _SHOW_EVERY == 0 or done == total:
                        bar("writing", done, total)
                    if stop.is_set():
                        break
                writer.flush()
    print(f"{path}: {added} entries added, {changed} changed, {done - added - changed} as they were")
    if stop.is_set():
        Console(stderr=True).print(f"stopped after {done} of {total}: import it again for the rest")
        raise typer.Exit(stop.exit_code)
