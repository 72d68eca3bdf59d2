"""`audio-vaegan dataset` on the processes of a launch:

accelerate launch recipes/generate_dataset.py MODEL SPEC.yaml --out DS
"""

import sys

from audio_vaegan.guard import guarded, share_cores


def run() -> int:
    from audio_vaegan.dataset_verbs import generate_dataset  # so that Ctrl-C ends its loading in a line, too

    return generate_dataset()


if __name__ == "__main__":
    share_cores()
    sys.exit(guarded(run))
