"""`audio-vaegan prepare`, its work shared by the processes of a launch, on one machine or several with common storage:

accelerate launch --config_file recipes/launch/two_cpu_processes.yaml recipes/prepare.py SOUNDS --recipe R --out STORE
"""

import sys
from datetime import timedelta

from accelerate import PartialState

from audio_vaegan.cli import prepare

if __name__ == "__main__":
    state = PartialState(cpu=True, timeout=timedelta(days=7))  # a process may wait long for the slowest one
    sys.exit(prepare(rank=state.process_index, size=state.num_processes, wait=state.wait_for_everyone))
