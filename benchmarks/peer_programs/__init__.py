"""Programs that play the session of the peers' benchmark, one file for each way (`benchmarks/peers.py`).

All but `ours` run where nothing of ours is installed: of this repository they import the session and the
worker, which need attrs alone; those of the SDK, which run here, import its references too.
"""
