"""Train a vocoder: accelerate launch recipes/train_vocoder.py --recipe R.yaml --store STORE --out RUN"""

import sys

from audio_vaegan.guard import guarded, share_cores


def run() -> int:
    from audio_vaegan.cli import train_vocoder  # so that Ctrl-C ends its loading in a line, too

    return train_vocoder()


if __name__ == "__main__":
    share_cores()
    sys.exit(guarded(run))
