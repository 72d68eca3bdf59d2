"""Train a vocoder: accelerate launch recipes/train_vocoder.py --recipe R.yaml --store STORE --out RUN"""

import sys

from audio_vaegan.cli import train_vocoder

if __name__ == "__main__":
    sys.exit(train_vocoder())
