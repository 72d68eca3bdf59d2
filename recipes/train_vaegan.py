"""Train the VAE-GAN: accelerate launch recipes/train_vaegan.py --recipe R.yaml --store STORE --out RUN"""

import sys

from audio_vaegan.cli import train_vaegan

if __name__ == "__main__":
    sys.exit(train_vaegan())
