"""Train the VAE-GAN: accelerate launch recipes/train_vaegan.py --recipe R.yaml --store STORE --out RUN"""

import sys

from audio_vaegan.evaluation.samples import write_samples
from audio_vaegan.training.launch import main

if __name__ == "__main__":
    sys.exit(main(samples=write_samples))
