"""`audio-vaegan dataset` on the processes of a launch:

accelerate launch recipes/generate_dataset.py MODEL SPEC.yaml --out DS
"""

import sys

from audio_vaegan.dataset_verbs import generate_dataset

if __name__ == "__main__":
    sys.exit(generate_dataset())
