"""`audio-vaegan bench`: how fast this machine does what the verbs do, and how near that is to what it could do.

`machine.py` the clock and the roof, `sounds.py` a model, `peers.py` other generators, `training.py` a step and its
parts, `options.py` what each option of training costs, `jobs.py` whole jobs, `scale.py` many clips, `report.py` the
tables. Each group runs in a process of its own, whose peak memory is the group's.
"""

from audio_vaegan.bench.options import OPTIONS
from audio_vaegan.bench.report import tables
from audio_vaegan.bench.run import Wanted, bench

__all__ = ["OPTIONS", "Wanted", "bench", "tables"]
