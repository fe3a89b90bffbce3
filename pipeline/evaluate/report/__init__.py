"""One page about a run over a recording: how well it did, what it missed and why, and what nearly went wrong."""
